import type { World } from "../distributed/world.js";

/** How a batch is computed: by which ranks, in how many parts each rank aggregates its share of the videos, and whose statistics its batch norms have. */
export interface Division {
  readonly world: World;
  readonly parts: number;
  /** Whether a batch norm has the statistics of the whole batch; otherwise it normalizes each rank's share of the videos by the statistics of that share. */
  readonly syncBatchNorm: boolean;
}
