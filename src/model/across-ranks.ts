import { divideEvenly } from "../base/numbers.js";
import { gatherRows } from "../distributed/gather.js";
import type { World } from "../distributed/world.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { joinMoments } from "../kernels/reference.js";
import { slice } from "../kernels/tensorflow-ops.js";
import { release, type Tensor, tidy } from "../runtime/runtime.js";
import { type Aggregation, type Aggregator, continuePass, startPass } from "./aggregator.js";

/**
 * Aggregates the videos of this rank, a consecutive part of the batch, and exchanges with the other ranks what depends on the whole batch: the moments of the
 * cluster logits, the descriptors, and the gradients of the parameters. So each rank has the descriptors of all videos, computes the layers after them for
 * the whole batch (of the hidden layer, its rows: see `DividedRows`), and has the same parameters as the others without exchanging those layers' gradients.
 */
export function acrossRanks(aggregate: Aggregator["aggregate"], world: World): Aggregator["aggregate"] {
  return function* (bytes, layout, modality, context, batchFrames): Aggregation {
    const ranges = divideEvenly(layout.videos, world.size);
    const [first, count] = ranges[world.rank] as readonly [number, number];
    const own = new RaggedLayout(layout.frameCounts.subarray(first, first + count));
    const gradients: [string, Tensor][] = [];
    const onGradient = (name: string, gradient: Tensor): void => void gradients.push([name, gradient]);
    const pass = aggregate(bytes, own, modality, { ...context, onGradient }, batchFrames);

    const moments = joinMoments(startPass(pass)[0] as Tensor);
    const reply = yield [world.gather(moments)];
    moments.dispose();
    const [descriptors] = continuePass(pass, reply) as [Tensor];
    const rows = ranges.map(([, size]) => size);
    const ofAll = gatherRows(descriptors, rows, world);
    descriptors.dispose();
    const [dy] = (yield [ofAll]) as [Tensor];

    const columns = dy.shape[1] as number;
    const ofNorm = continuePass(pass, [tidy(() => slice(dy, [first, 0], [count, columns]))]);
    dy.dispose();
    const ofNormInAll = world.sumAll(ofNorm);
    const total = yield ofNormInAll;
    continuePass(pass, total);
    release(...ofNormInAll);
    const sums = world.sumAll(gradients.map(([, gradient]) => gradient));
    for (const [i, [name, gradient]] of gradients.entries()) {
      gradient.dispose();
      context.onGradient(name, sums[i] as Tensor);
    }
  };
}
