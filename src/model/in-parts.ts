import { divideEvenly } from "../base/numbers.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { add, addAll, concat, slice } from "../kernels/tensorflow-ops.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";
import { type Aggregation, type Aggregator, continuePass, startPass } from "./aggregator.js";
import type { TrainingContext } from "./layers.js";

/**
 * Aggregates `count` parts of the videos one after another, and keeps only their descriptors: with the same results up to rounding, it needs memory for the
 * activations of one part, and computes them four times, up to each pause and up to the end.
 */
export function inParts(aggregate: Aggregator["aggregate"], count: number): Aggregator["aggregate"] {
  return function* (bytes, layout, modality, context, batchFrames): Aggregation {
    const parts = divide(layout, count);
    /** Runs a part up to its pause after `replies`; returns what it yields there. `tidy` frees the rest. */
    const run = (part: Part, reports: Partial<TrainingContext>, ...replies: readonly (readonly Tensor[])[]): readonly Tensor[] => {
      const rows = bytes.subarray(part.firstFrame * modality.features, (part.firstFrame + part.layout.frames) * modality.features);
      const silent = { ...context, onBatchStatistics: () => undefined, onGradient: () => undefined };
      const pass = aggregate(rows, part.layout, modality, { ...silent, ...reports }, batchFrames);
      return replies.reduce((_, reply) => continuePass(pass, reply), startPass(pass));
    };
    const { onBatchStatistics, onGradient } = context;

    const moments = (yield [join(parts.map((part) => tidy(() => run(part, {})[0] as Tensor)))]).map((tensor) => tensor.clone());
    const descriptorsOf = (part: Part, i: number): Tensor =>
      tidy(() => run(part, i === 0 ? { onBatchStatistics } : {}, moments)[0] as Tensor);
    const [dy] = (yield [join(parts.map(descriptorsOf))]) as [Tensor];

    const columns = dy.shape[1] as number;
    const rowsOf = ({ firstVideo, layout: { videos } }: Part): Tensor => tidy(() => slice(dy, [firstVideo, 0], [videos, columns]));
    const ofParts = parts.map((part) => tidy(() => run(part, {}, moments, [rowsOf(part)])));
    const ofNorm = [0, 1].map((i) => addAll(ofParts.map((ofPart) => ofPart[i] as Tensor)));
    for (const ofPart of ofParts) release(...ofPart);
    const total = yield ofNorm;

    const sums = new Map<string, Tensor>();
    for (const part of parts) {
      const gradients = tidy(() => {
        const found: [string, Tensor][] = [];
        run(part, { onGradient: (name, gradient) => void found.push([name, gradient]) }, moments, [rowsOf(part)], total);
        return found;
      });
      for (const [name, gradient] of gradients) addTo(sums, name, gradient);
    }
    release(dy, ...moments, ...ofNorm);
    for (const [name, gradient] of sums) onGradient(name, gradient);
  };
}

/** Concatenates along the first axis. Takes ownership of the tensors. */
function join(tensors: readonly Tensor[]): Tensor {
  const joined = tidy(() => concat(tensors, 0));
  if (tensors.length > 1) release(...tensors);
  return joined;
}

/** Adds a tensor to the sum of that name; takes ownership of it. */
function addTo(sums: Map<string, Tensor>, name: string, term: Tensor): void {
  const before = sums.get(name);
  sums.set(name, before === undefined ? term : add(before, term));
  if (before !== undefined) release(before, term);
}

/** Consecutive videos of a batch. */
interface Part {
  readonly firstVideo: number;
  readonly firstFrame: number;
  readonly layout: RaggedLayout;
}

/** Divides a batch into `count` parts of about the same number of videos. */
function divide({ frameCounts, offsets, videos }: RaggedLayout, count: number): readonly Part[] {
  return divideEvenly(videos, count).map(([first, size]) => ({
    firstVideo: first,
    firstFrame: offsets[first] as number,
    layout: new RaggedLayout(frameCounts.subarray(first, first + size)),
  }));
}
