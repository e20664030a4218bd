import type { BatchStream } from "../data/stream.js";
import type { RaggedBatch } from "../data/video.js";
import type { World } from "../distributed/world.js";
import type { FrozenNetwork } from "../model/frozen.js";
import { labelMatrix, ratedMask } from "../model/layers.js";
import { tidy } from "../runtime/tensor.js";
import { fromFloats, toFloats } from "../runtime/transfer.js";

/** What the network computes from a batch. */
export interface Predictions {
  /** `[videos, classes] float32`. */
  readonly probabilities: Float32Array;
  /** Cross entropy summed over classes and videos; NaN if it is not computed. */
  readonly loss: number;
}

/** A batch without its features, and what was computed from it. Ranks other than 0 do not have the IDs and labels of batches that they do not read. */
export interface ComputedBatch extends Pick<RaggedBatch, "ids" | "labels" | "rated">, Predictions {
  /** Fraction of the pass that is done after it: 0..1. */
  readonly fraction: number;
}

/** How batches are computed: by which ranks, and what. */
export interface Computation {
  readonly world: World;
  /** Maximum number of videos in a batch. */
  readonly batchSize: number;
  readonly numClasses: number;
  readonly compute: (batch: RaggedBatch) => Predictions;
}

/** Returns a computation of the probabilities and, if `withLoss` is set, of the loss. */
export function predictWith(
  network: FrozenNetwork,
  { withLoss, ...batches }: Omit<Computation, "compute"> & { readonly withLoss: boolean },
): Computation {
  const compute: Computation["compute"] = (batch) =>
    tidy(() => {
      const { numClasses } = batches;
      const logits = network.logits(batch);
      const { crossEntropy, sigmoid } = network.kernels;
      const lossSum = withLoss ? crossEntropy(logits, labelMatrix(batch.labels, numClasses), ratedMask(batch.rated, numClasses)) : null;
      return { probabilities: toFloats(sigmoid(logits)), loss: lossSum === null ? Number.NaN : (toFloats(lossSum)[0] as number) };
    });
  return { ...batches, compute };
}

/**
 * Computes each batch on one rank: rank r those of index r, r + N, ... Yields all of them in order, on every rank. Ends on all ranks after the last batch that
 * rank 0 has read, which may stop early. `fraction` returns the fraction of the pass that is done after the current batch.
 */
export async function* computeBatches(
  batches: AsyncIterable<RaggedBatch>,
  fraction: () => number,
  computation: Computation,
): AsyncGenerator<ComputedBatch, void> {
  const { world, compute } = computation;
  if (world.size === 1) {
    for await (const batch of batches) yield { ...describeBatch(batch, fraction()), ...compute(batch) };
    return;
  }
  let round: ReadBatch[] = [];
  let own: Predictions | null = null;
  for await (const batch of batches) {
    if (round.length === world.rank) own = compute(batch);
    round.push(describeBatch(batch, fraction()));
    if (round.length < world.size) continue;
    const computed = exchange(round, own, computation);
    yield* computed;
    if (computed.length < world.size) return;
    round = [];
    own = null;
  }
  yield* exchange(round, own, computation);
}

/** Other ranks than 0: computes this rank's batches of a stream, whose results rank 0 uses, and closes it. */
export async function computeOwnBatches(stream: BatchStream, computation: Computation): Promise<void> {
  for await (const _ of computeBatches(stream, () => stream.fraction, computation));
  await stream.close();
}

type ReadBatch = Omit<ComputedBatch, keyof Predictions>;

function describeBatch({ ids, labels, rated }: RaggedBatch, fraction: number): ReadBatch {
  return { ids, labels, rated, fraction };
}

/** Returns the batches of a round, at most one per rank, with what the ranks have computed from them: as many as rank 0 has read. */
function exchange(
  round: readonly ReadBatch[],
  own: Predictions | null,
  { world, batchSize, numClasses }: Computation,
): readonly ComputedBatch[] {
  const [[count = 0] = []] = world.exchange([round.length]);
  if (count === 0) return [];
  // All ranks' tensors must have the same shape: the loss, then the probabilities of a full batch.
  const length = 1 + batchSize * numClasses;
  const sent = new Float32Array(length);
  if (own !== null) {
    sent[0] = own.loss;
    sent.set(own.probabilities, 1);
  }
  const all = tidy(() => toFloats(world.gather(fromFloats(sent, [length]))));
  return round.slice(0, count).map((batch, rank) => {
    const begin = rank * length;
    const probabilities = all.subarray(begin + 1, begin + 1 + batch.ids.length * numClasses);
    return { ...batch, probabilities, loss: all[begin] as number };
  });
}
