import { existsSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { RaggedBatch } from "../../src/data/video.js";
import { type ModelSizes, modelSizes } from "../../src/model/sizes.js";

/** An array of the golden vectors; integers are widened to double. */
export interface GoldenArray {
  readonly shape: readonly number[];
  readonly values: Float32Array | Float64Array | Uint8Array;
}

/** One case written by Paddle 2.6.2 (scripts/golden/convert_golden.py): the network's sizes, its weights, and its results. */
export interface GoldenCase {
  readonly sizes: ModelSizes;
  readonly learningRate: number;
  readonly l2Penalty: number;
  /** The parameters to which Paddle applied weight decay. */
  readonly decayed: readonly string[];
  /** Arrays of which only every n-th row was kept, with n. */
  readonly strides: Readonly<Record<string, number>>;
  readonly weights: ReadonlyMap<string, GoldenArray>;
  readonly vectors: ReadonlyMap<string, GoldenArray>;
  readonly batch: RaggedBatch;
}

interface Entry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Decodes safetensors independently of the reader that the golden tests help to check. */
function decode(path: URL): Map<string, GoldenArray> {
  const bytes = gunzipSync(readFileSync(path));
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerLength)) as Record<string, Entry>;
  const arrays = new Map<string, GoldenArray>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    const data = bytes.buffer.slice(
      bytes.byteOffset + 8 + headerLength + data_offsets[0],
      bytes.byteOffset + 8 + headerLength + data_offsets[1],
    );
    arrays.set(name, { shape, values: typed(dtype, data) });
  }
  return arrays;
}

function typed(dtype: string, data: ArrayBuffer): GoldenArray["values"] {
  switch (dtype) {
    case "F32":
      return new Float32Array(data);
    case "F64":
      return new Float64Array(data);
    case "U8":
      return new Uint8Array(data);
    case "I64":
      return Float64Array.from(new BigInt64Array(data), Number);
    default:
      throw new Error(`golden vectors of ${dtype}`);
  }
}

/** The folder `test/golden/NAME`. */
export const goldenFolder = (name: string): URL => new URL(`../../../test/golden/${name}/`, import.meta.url);

/** Loads `test/golden/NAME`. The weights of "resume" are in Paddle's own files and are not loaded. */
export function loadGolden(name: "small" | "resume"): GoldenCase {
  const folder = goldenFolder(name);
  const weights = new URL("weights.safetensors.gz", folder);
  const meta = JSON.parse(readFileSync(new URL("meta.json", folder), "utf8"));
  const vectors = decode(new URL("vectors.safetensors.gz", folder));
  const value = (key: string): GoldenArray => {
    const found = vectors.get(key);
    if (found === undefined) throw new Error(`no golden vector ${key}`);
    return found;
  };
  const frameCounts = Int32Array.from(value("lens").values);
  const matrix = value("labels");
  const classes = matrix.shape[1] as number;
  const labels = Array.from(frameCounts, (_, video) =>
    Int32Array.from(Array.from({ length: classes }, (_, c) => c).filter((c) => matrix.values[video * classes + c] === 1)),
  );
  return {
    sizes: modelSizes({ ...meta.cfg, name: "NEXTVLAD", num_mixtures: 1, video_feature_size: 1024, audio_feature_size: 128 }),
    learningRate: meta.lr,
    l2Penalty: meta.cfg.l2_penalty,
    decayed: meta.l2_on,
    strides: meta.strided,
    weights: existsSync(weights) ? decode(weights) : new Map(),
    vectors,
    batch: {
      ids: Array.from(frameCounts, (_, video) => `golden${video}`),
      frameCounts,
      rgb: value("rgb").values as Uint8Array,
      audio: value("audio").values as Uint8Array,
      labels,
    },
  };
}

/** Returns the subset of `values` that was kept of Paddle's array: every n-th row of a large array, all rows of others. */
export function pickKept(golden: GoldenCase, name: string, values: ArrayLike<number>, columns: number): Float32Array {
  const stride = golden.strides[name] ?? 1;
  const rows = Math.ceil(values.length / columns / stride);
  return Float32Array.from(
    { length: rows * columns },
    (_, i) => values[Math.floor(i / columns) * stride * columns + (i % columns)] as number,
  );
}

/** Arrays with at least this many values are compared by a quantile. */
const LARGE = 10_000;

/**
 * Compares an array after some steps of Adam with Paddle's, given the array before the steps. Returns a description of the mismatch, or null.
 * Elements with gradients near zero differ by up to 2.4e-4 in Paddle itself. In a large array they are rare: its 99.9 % quantile must be below 1e-6. In a small
 * array every value must be within 3e-4. The update, `after - before`, must be within 1e-2 of Paddle's in L2 norm: otherwise, wrong values that change little
 * would pass.
 */
export function describeUpdateError(before: ArrayLike<number>, ours: ArrayLike<number>, theirs: ArrayLike<number>): string | null {
  const count = theirs.length;
  if (ours.length !== count || before.length !== count) return `${ours.length} values, ${before.length} before, ${count} of Paddle's`;
  const differences = Float64Array.from({ length: count }, (_, i) => Math.abs((ours[i] as number) - (theirs[i] as number))).sort();
  const [rank, bound, words] = count >= LARGE ? [Math.floor(count * 0.999), 1e-6, "99.9 % quantile"] : [count - 1, 3e-4, "largest"];
  const difference = differences[rank] as number;
  if (!(difference < bound)) return `${words} difference ${difference}, allowed ${bound}`;
  const update = Float64Array.from({ length: count }, (_, i) => (theirs[i] as number) - (before[i] as number));
  const error = Math.hypot(...differences) / Math.hypot(...update);
  return error < 1e-2 ? null : `relative L2 error of the update ${error}, allowed 0.01`;
}
