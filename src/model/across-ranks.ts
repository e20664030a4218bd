import { divideEvenly } from "../base/numbers.js";
import { gatherRows } from "../distributed/gather.js";
import type { World } from "../distributed/world.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { joinMoments } from "../kernels/reference.js";
import { slice } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { release, type Tensor, tidy } from "../runtime/runtime.js";
import { type Aggregation, type Aggregator, continuePass, startPass } from "./aggregator.js";
import type { Division } from "./division.js";
import type { TrainingContext } from "./layers.js";

/**
 * Aggregates the videos of this rank, a consecutive part of the batch, and exchanges with the other ranks what depends on the whole batch: the descriptors, the
 * gradients of the parameters and, with `syncBatchNorm`, the moments of the cluster logits. So each rank has the descriptors of all videos, computes the layers
 * after them for the whole batch (of the hidden layer, its rows: see `DividedRows`), and has the same parameters as the others without exchanging those layers'
 * gradients.
 */
export function acrossRanks(aggregate: Aggregator["aggregate"], { world, syncBatchNorm }: Division): Aggregator["aggregate"] {
  return function* (bytes, layout, modality, context, batchFrames): Aggregation {
    const ranges = divideEvenly(layout.videos, world.size);
    const [first, count] = ranges[world.rank] as readonly [number, number];
    const own = new RaggedLayout(layout.frameCounts.subarray(first, first + count));
    const gradients: [string, Tensor][] = [];
    const onGradient = (name: string, gradient: Tensor): void => void gradients.push([name, gradient]);
    const onBatchStatistics = syncBatchNorm ? context.onBatchStatistics : statisticsOfRank0(context.onBatchStatistics, world);
    const pass = aggregate(bytes, own, modality, { ...context, onBatchStatistics, onGradient }, syncBatchNorm ? batchFrames : own.frames);

    const [moments] = startPass(pass) as [Tensor];
    const reply = yield [syncBatchNorm ? gatherMoments(moments, world) : moments];
    const [descriptors] = continuePass(pass, reply) as [Tensor];
    const rows = ranges.map(([, size]) => size);
    const ofAll = gatherRows(descriptors, rows, world);
    descriptors.dispose();
    const [dy] = (yield [ofAll]) as [Tensor];

    const columns = dy.shape[1] as number;
    const ofNorm = continuePass(pass, [tidy(() => slice(dy, [first, 0], [count, columns]))]);
    dy.dispose();
    const ofNormFrames = syncBatchNorm ? world.sumAll(ofNorm) : ofNorm.map((gradient) => gradient.clone());
    const total = yield ofNormFrames;
    continuePass(pass, total);
    release(...ofNormFrames);
    const sums = world.sumAll(gradients.map(([, gradient]) => gradient));
    for (const [i, [name, gradient]] of gradients.entries()) {
      gradient.dispose();
      context.onGradient(name, sums[i] as Tensor);
    }
  };
}

/** Returns the moments of all ranks' frames `[ranks, columns, 3]`. Takes ownership of those of this rank `[parts, columns, 3]`. */
function gatherMoments(moments: Tensor, world: World): Tensor {
  const joined = joinMoments(moments);
  const all = world.gather(joined);
  joined.dispose();
  return all;
}

/** Reports rank 0's statistics on every rank, so that all have the same moving statistics. PaddleVideo saves those of its first process. */
function statisticsOfRank0(report: TrainingContext["onBatchStatistics"], world: World): TrainingContext["onBatchStatistics"] {
  return (names, ...own) =>
    tidy(() => {
      const [mean, variance] = world.sumAll(world.rank === 0 ? own : own.map(({ shape }) => fill(shape, 0))) as [Tensor, Tensor];
      report(names, mean, variance);
    });
}
