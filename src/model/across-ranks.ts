import { divideEvenly } from "../base/numbers.js";
import { startGatherRows } from "../distributed/gather.js";
import { type Pausable, type Pending, pauseFor } from "../distributed/pending.js";
import type { World } from "../distributed/world.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { joinMoments } from "../kernels/reference.js";
import { slice } from "../kernels/tensorflow-ops.js";
import { fill } from "../runtime/constants.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";
import type { AggregatedFrames } from "./aggregate-batch.js";
import { type Aggregator, continuePass, startPass } from "./aggregator.js";
import type { Division } from "./division.js";
import type { TrainingContext } from "./layers.js";
import type { ModalitySizes } from "./sizes.js";

/**
 * Aggregates the videos of this rank, a consecutive part of the batch, and exchanges with the other ranks what depends on the whole batch: the descriptors, the
 * gradients of the parameters and, with `syncBatchNorm`, the moments of the cluster logits. So each rank has the descriptors of all videos, computes the layers
 * after them for the whole batch (of the hidden layer, its rows: see `DividedRows`), and has the same parameters as the others without exchanging those layers'
 * gradients. Pauses for each exchange.
 */
export function* aggregateAcrossRanks(
  aggregate: Aggregator["aggregate"],
  { world, syncBatchNorm }: Division,
  bytes: Uint8Array,
  layout: RaggedLayout,
  modality: ModalitySizes,
  context: TrainingContext,
): Pausable<AggregatedFrames> {
  const ranges = divideEvenly(layout.videos, world.size);
  const [first, count] = ranges[world.rank] as readonly [number, number];
  const own = new RaggedLayout(layout.frameCounts.subarray(first, first + count));
  const gradients: [string, Tensor][] = [];
  const onGradient = (name: string, gradient: Tensor): void => void gradients.push([name, gradient]);
  let reportStatistics = (): void => undefined;
  const onBatchStatistics: TrainingContext["onBatchStatistics"] = (names, ...statistics) => {
    const ofRank0 = startSendingStatistics(statistics, world);
    reportStatistics = () => tidy(() => context.onBatchStatistics(names, ...ofRank0.wait()));
  };
  const ownContext = { ...context, onGradient, ...(syncBatchNorm ? {} : { onBatchStatistics }) };
  const pass = aggregate(bytes, own, modality, ownContext, syncBatchNorm ? layout.frames : own.frames);

  const [moments] = startPass(pass) as [Tensor];
  const reply = syncBatchNorm ? yield* pauseFor(startGatherMoments(moments, world)) : moments;
  const [descriptors] = continuePass(pass, [reply]) as [Tensor];
  reply.dispose();
  const rows = ranges.map(([, size]) => size);
  const gathered = startGatherRows(descriptors, rows, world);
  descriptors.dispose();
  const y = yield* pauseFor(gathered);
  reportStatistics();

  const backward = function* (dy: Tensor): Pausable<void> {
    const columns = dy.shape[1] as number;
    const ofNorm = continuePass(pass, [tidy(() => slice(dy, [first, 0], [count, columns]))]);
    dy.dispose();
    const total = syncBatchNorm ? yield* pauseFor(world.startSum(ofNorm)) : ofNorm.map((gradient) => gradient.clone());
    continuePass(pass, total);
    release(...total);
    const summed = world.startSum(gradients.map(([, gradient]) => gradient));
    for (const [, gradient] of gradients) gradient.dispose();
    const sums = yield* pauseFor(summed);
    for (const [i, [name]] of gradients.entries()) context.onGradient(name, sums[i] as Tensor);
  };
  return { y, backward };
}

/** Starts to gather the moments of all ranks' frames `[ranks, columns, 3]`. Takes ownership of those of this rank `[parts, columns, 3]`. */
function startGatherMoments(moments: Tensor, world: World): Pending<Tensor> {
  const joined = joinMoments(moments);
  const all = world.startGather(joined);
  joined.dispose();
  return all;
}

/** Starts to send rank 0's mean and variance to every rank, so that all have the same moving statistics. PaddleVideo saves those of its first process. */
function startSendingStatistics(own: readonly [Tensor, Tensor], world: World): Pending<readonly [Tensor, Tensor]> {
  return tidy(() => world.startSum(world.rank === 0 ? own : own.map(({ shape }) => fill(shape, 0)))) as Pending<readonly [Tensor, Tensor]>;
}
