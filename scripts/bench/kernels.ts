/**
 * Times our CPU kernels (native/) against TensorFlow's kernels at the relevant shapes, alternating between the two. src/kernels/choose.ts is based on the
 * results. Usage: node dist/scripts/bench/kernels.js [FILTER] [--rounds N]; FILTER is a part of a kernel's name and shape. Prints a Markdown table.
 * NEXTVLAD_ISA=avx2 limits both to AVX2.
 */
import { parseArgs } from "node:util";
import { fastestOnCpu, ownKernels } from "../../src/kernels/choose.js";
import { type CpuChoice, PRODUCTS } from "../../src/kernels/cpu.js";
import { RaggedLayout } from "../../src/kernels/ragged.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { type MatMulOptions, statelessNormal } from "../../src/kernels/tensorflow-ops.js";
import type { FrozenDense, Kernels } from "../../src/kernels/types.js";
import { quantizationOf } from "../../src/model/dequantize.js";
import { parameterTable } from "../../src/model/network.js";
import { BATCH_NORM_EPSILON } from "../../src/model/parameters.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { fill } from "../../src/runtime/constants.js";
import { loadTensorflow, runtime } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { DeviceVariable } from "../../src/runtime/variables.js";
import { spreadOf } from "./statistics.js";
import { randomBatch } from "./workload.js";

/** One kernel at one shape, with both implementations. */
interface Case {
  readonly kernel: string;
  readonly shape: string;
  /** Whether src/kernels/choose.ts selects our kernel. */
  readonly chosen: boolean;
  readonly ours: () => void;
  readonly tensorflow: () => void;
  readonly dispose: () => void;
}

function disposeAll(...made: readonly { dispose(): void }[]): void {
  for (const one of made) one.dispose();
}

const chosen = (): CpuChoice => fastestOnCpu(runtime().native);
const normal = (shape: readonly number[], stream: number): Tensor => statelessNormal(shape, [7, stream]);

/** `[inputs, outputs]` of dense layers: hidden1, classifier and context gating of the published recipe, of AudioSet and of the digits. */
const MATRICES = [
  [36_864, 2048],
  [2048, 3862],
  [2048, 256],
  [2048, 1024],
  [1024, 527],
  [4608, 256],
] as const;

/** Matrices that are copied to panels in inference: AudioSet's, and context gating of the published recipe. */
const FROZEN = [
  [2048, 1024],
  [1024, 128],
  [128, 1024],
  [1024, 527],
  [2048, 256],
  [256, 2048],
] as const;

/** Products with the features, of the folded expansion and of small matrices, at the sizes of the published recipe (32 x 300 frames) and of AudioSet. */
const PRODUCTS_IN_TRAINING = [
  [9600, 1024, 2048, "a b"],
  [9600, 1024, 1024, "a b"],
  [9600, 1024, 8, "a b"],
  [1024, 9600, 2048, "a^T b"],
  [1024, 9600, 1024, "a^T b"],
  [1024, 9600, 8, "a^T b"],
  [128, 9600, 1024, "a^T b"],
  [1024, 2048, 1024, "a b"],
  [1024, 2048, 8, "a b"],
  [1024, 1024, 2048, "a b^T"],
  [2048, 1024, 1024, "a^T b"],
  [1280, 128, 512, "a b"],
  [1280, 128, 256, "a b"],
  [1280, 128, 8, "a b"],
  [128, 1280, 512, "a^T b"],
  [128, 1280, 256, "a^T b"],
  [128, 1280, 8, "a^T b"],
  [128, 256, 512, "a b"],
  [128, 256, 8, "a b"],
  [128, 512, 256, "a b^T"],
  [128, 8, 256, "a b^T"],
  [256, 128, 512, "a^T b"],
  [256, 128, 8, "a^T b"],
  [1, 256, 512, "a b"],
] as const;

const FORMS = { "a b": {}, "a^T b": { transposeA: true }, "a b^T": { transposeB: true } } as const;

function productCase(implementation: "rows" | "panels", rows: number, terms: number, columns: number, form: keyof typeof FORMS): Case {
  const options: MatMulOptions = FORMS[form];
  const a = normal(options.transposeA ? [terms, rows] : [rows, terms], 1);
  const b = normal(options.transposeB ? [columns, terms] : [terms, columns], 2);
  return {
    kernel: `product (${implementation})`,
    shape: `${form}, [${rows}, ${terms}] x [${terms}, ${columns}]`,
    chosen: chosen().matMul({ rows, terms, columns, ...options }) === implementation,
    ours: () => tidy(() => void PRODUCTS[implementation](a, b, options)),
    tensorflow: () => tidy(() => void PRODUCTS.tensorflow(a, b, options)),
    dispose: () => disposeAll(a, b),
  };
}

function frozenDenseCase(rows: number, inputs: number, outputs: number): Case {
  const x = normal([rows, inputs], 1);
  const w = new DeviceVariable("w", [inputs, outputs]);
  tidy(() => w.assign(normal([inputs, outputs], 2)));
  const [ours, tensorflow] = [ownKernels(), REFERENCE].map((kernels) =>
    tidy(() => kernels.freezeDense(w, { scale: fill([outputs], 2), shift: fill([outputs], 1) })),
  ) as [FrozenDense, FrozenDense];
  return {
    kernel: "product with frozen weights",
    shape: `[${rows}, ${inputs}] x [${inputs}, ${outputs}]`,
    chosen: rows >= chosen().minPackedRows(inputs, outputs),
    ours: () => tidy(() => void ours.apply(x)),
    tensorflow: () => tidy(() => void tensorflow.apply(x)),
    dispose: () => disposeAll(x, w, ours, tensorflow),
  };
}

const COEFFICIENTS = { learningRate: 1e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, beta1Power: 0.9, beta2Power: 0.999, weightDecay: 0 };

function denseAdamCase(rows: number, inputs: number, outputs: number): Case {
  const [x, dy] = [normal([rows, inputs], 1), normal([rows, outputs], 2)];
  const [w, m, v] = ["w", "m", "v"].map((name) => {
    const variable = new DeviceVariable(name, [inputs, outputs]);
    tidy(() => variable.assign(fill([inputs, outputs], 0.1)));
    return variable;
  }) as [DeviceVariable, DeviceVariable, DeviceVariable];
  return {
    kernel: "dense gradients and Adam",
    shape: `[${rows}, ${inputs}] x [${inputs}, ${outputs}]`,
    chosen: true,
    ours: () => tidy(() => void w.applyProductAdam(m, v, x, dy, COEFFICIENTS, 0)),
    tensorflow: () =>
      tidy(() => {
        w.use((value) => PRODUCTS.tensorflow(dy, value, { transposeB: true }));
        w.applyAdam(m, v, PRODUCTS.tensorflow(x, dy, { transposeA: true }), COEFFICIENTS, 0);
      }),
    dispose: () => disposeAll(x, dy, w, m, v),
  };
}

const sizesOf = (features: number, clusters: number): ModelSizes => ({
  model: "NEXTVLAD",
  classes: 10,
  clusters,
  groups: 8,
  expansion: 2,
  hidden: 8,
  bottleneck: 2,
  mixtures: 1,
  rgbFeatures: 0,
  audioFeatures: features,
});

/** Builds a case that runs `work` with each implementation's kernels on the same batch. */
function blockCase(
  kernel: string,
  [videos, frames, features, clusters]: readonly [number, number, number, number],
  isChosen: boolean,
  work: (kernels: Kernels, layout: RaggedLayout, bytes: Uint8Array, modality: ModalitySizes, weights: WeightStore) => void,
): Case {
  const sizes = sizesOf(features, clusters);
  const { frameCounts, audio } = randomBatch(videos, frames, sizes);
  const layout = new RaggedLayout(frameCounts);
  const [modality] = modalitiesOf(sizes) as [ModalitySizes];
  const weights = new WeightStore(parameterTable(sizes));
  for (const { name } of weights.table) weights.initialize(name, 0, null);
  const [ours, tensorflow] = [ownKernels(), REFERENCE].map(
    (kernels) => () => tidy(() => work(kernels, layout, audio, modality, weights)),
  ) as [() => void, () => void];
  return {
    kernel,
    shape: `${videos} x ${frames} frames, F ${features}, K ${clusters}`,
    chosen: isChosen,
    ours,
    tensorflow,
    dispose: () => weights.dispose(),
  };
}

/** Videos, frames per video, features, clusters. */
const BATCHES = [
  [32, 300, 1024, 128],
  [32, 300, 128, 128],
  [32, 100, 1024, 128],
  [32, 60, 1024, 128],
  [32, 20, 1024, 128],
  [32, 5, 1024, 128],
  [128, 10, 128, 64],
  [128, 60, 128, 64],
  [128, 300, 128, 64],
  [32, 12, 1024, 16],
] as const;

function* cases(): Generator<() => Case> {
  for (const [inputs, outputs] of MATRICES) {
    for (const rows of [1, 2, 4, 8, 32, 64, 128, 160]) {
      for (const implementation of ["rows", "panels"] as const) yield () => productCase(implementation, rows, inputs, outputs, "a b");
    }
  }
  for (const [rows, terms, columns, form] of PRODUCTS_IN_TRAINING) yield () => productCase("panels", rows, terms, columns, form);
  for (const [inputs, outputs] of MATRICES) for (const rows of [8, 32, 128, 160]) yield () => denseAdamCase(rows, inputs, outputs);
  for (const [inputs, outputs] of FROZEN) for (const rows of [3, 8, 16, 32, 128, 512]) yield () => frozenDenseCase(rows, inputs, outputs);
  for (const batch of BATCHES) {
    yield () =>
      blockCase("soft assignment and gradient", batch, true, (kernels, layout) => {
        const [groups, clusters] = [8, batch[3]];
        const [z, alpha] = [normal([layout.frames, groups * clusters], 1), normal([layout.frames, groups], 2)];
        const norm = { scale: fill([groups * clusters], 1), shift: fill([groups * clusters], 0) };
        const soft = kernels.softAssign(z, alpha, kernels.moments(z), norm, layout, BATCH_NORM_EPSILON);
        const gradient = soft.backward(soft.assignment.clone(), soft.aSum.clone());
        gradient.z(norm.scale, gradient, layout.frames);
      });
    const sums = { frames: batch[0] * batch[1], videos: batch[0], expanded: 2 * batch[2], clusters: batch[3] };
    yield () => {
      const [x, a] = [normal([sums.frames, sums.expanded], 1), normal([sums.frames * 8, sums.clusters], 2)];
      const made = blockCase("sums over frames and gradient", batch, true, (kernels, layout) => {
        const found = kernels.vladSums(a, x.clone(), layout, 8);
        found.backward(found.sums);
      });
      return { ...made, dispose: () => disposeAll(made, x, a) };
    };
    yield () =>
      blockCase(
        "features times weights and transposed",
        batch,
        chosen().bytesInTraining(batch[0] * batch[1]),
        (kernels, layout, bytes, modality, weights) => {
          const x = kernels.features(bytes, layout.frames, quantizationOf(modality, weights));
          const y = x.times(normal([modality.features, 8 * batch[3]], 1));
          x.transposedTimes(y);
          x.dispose();
        },
      );
  }
}

/** Minimum duration of a sample. */
const SAMPLE_MS = 5;

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}

function time(work: () => void, repeats: number): Sample {
  const cpu = process.cpuUsage();
  const start = performance.now();
  for (let i = 0; i < repeats; i++) work();
  const wallMs = (performance.now() - start) / repeats;
  const { user, system } = process.cpuUsage(cpu);
  return { wallMs, cpuMs: (user + system) / 1000 / repeats };
}

/** Returns one row of the table: the fastest wall time and the median CPU time of each implementation. */
function measure({ kernel, shape, chosen, ours, tensorflow }: Case, rounds: number): string {
  const repeats = [ours, tensorflow].map((work) => {
    work();
    return Math.max(1, Math.ceil(SAMPLE_MS / time(work, 1).wallMs));
  }) as [number, number];
  const samples = Array.from({ length: rounds }, () => [time(ours, repeats[0]), time(tensorflow, repeats[1])] as const);
  const wall = [0, 1].map((side) => spreadOf(samples.map((pair) => (pair[side] as Sample).wallMs)).min) as [number, number];
  const cpu = [0, 1].map((side) => spreadOf(samples.map((pair) => (pair[side] as Sample).cpuMs)).median) as [number, number];
  const numbers = [...wall, wall[1] / wall[0], ...cpu, cpu[1] / cpu[0]].map((value) => value.toFixed(2));
  return `| ${[kernel, shape, ...numbers, chosen ? "ours" : "TensorFlow"].join(" | ")} |`;
}

const { values, positionals } = parseArgs({ allowPositionals: true, options: { rounds: { type: "string", default: "15" } } });
await loadTensorflow(false);
process.stdout.write(`level ${runtime().device.level}\n\n`);
process.stdout.write(
  "| kernel | shape | ours, ms | TensorFlow, ms | ratio | ours, CPU ms | TensorFlow, CPU ms | ratio | chosen |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
);
for (const make of cases()) {
  const one = make();
  if (`${one.kernel} ${one.shape}`.includes(positionals[0] ?? "")) process.stdout.write(`${measure(one, Number(values.rounds))}\n`);
  one.dispose();
}
