import { readdir, stat } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { type Content, writeDirectoryAtomic, writeFileAtomic } from "../base/files.js";
import { assertReplaceable } from "../base/output-checks.js";
import { isStream, writeStream } from "../base/output-stream.js";
import { requireMemory } from "../base/resource-limits.js";
import { pickleArrayPortably } from "../formats/pickle/numpy.js";
import { encodePickledDict } from "../formats/pickle/pickler.js";
import type { Picklable } from "../formats/pickle/values.js";
import { encodeOnnx } from "../formats/protobuf/onnx.js";
import { encodeNpz } from "../formats/tensors/npz.js";
import { encodePaddleVariable } from "../formats/tensors/paddle-variable.js";
import { encodeSafetensors } from "../formats/tensors/safetensors.js";
import { dropRates } from "../model/drop-rates.js";
import { parameterTable } from "../model/network.js";
import { buildOnnxModel } from "../model/onnx.js";
import { countParameters, type Parameter } from "../model/parameters.js";
import { type ModelSection, modelSizes } from "../model/sizes.js";
import { BETA1, BETA2 } from "../optim/adam.js";
import { learningRateAt, type ScheduleOptions } from "../optim/schedule.js";
import { assertArraysMatch } from "./arrays.js";
import { findPaddleStep } from "./paddle-step.js";
import { CONFIG_KEY } from "./safetensors-source.js";
import { readSnapshotState } from "./snapshot.js";
import { gatherHostArrays, type HostArray, readHostArrays, type WeightSource } from "./weight-source.js";

export type ExportFormat = "pdparams" | "paddle-vars" | "safetensors" | "npz" | "onnx";

export interface ExportOptions {
  /** Opened with the optimizer state, if it exists and the format supports it. */
  readonly weights: WeightSource;
  readonly format: ExportFormat;
  /** A file; for paddle-vars a directory; for pdparams the prefix, with or without .pdparams. */
  readonly out: string;
  readonly model: ModelSection & { readonly drop_rate: number; readonly hidden_drop_rate: number; readonly max_frames: number };
  /** The learning rate schedule of the run. */
  readonly schedule: ScheduleOptions;
  /** The whole config as YAML, for the formats that can store it; null if most of it is unknown. */
  readonly configYaml: string | null;
  /** The version of nextvlad, for the formats that name their producer. */
  readonly version: string;
  /** Whether an existing file may be replaced. */
  readonly overwrite: boolean;
}

export interface ExportOutcome {
  readonly files: readonly string[];
  /** Whether the optimizer state was written; null if the format cannot hold it. */
  readonly optimizer: boolean | null;
}

const REMEDY = "use the config that these weights were trained with, or other weights";

/** Returns whether a format can hold the optimizer state. */
export function supportsOptimizer(format: ExportFormat): boolean {
  return format === "pdparams" || format === "paddle-vars";
}

/**
 * Writes weights in another format (`nextvlad export`), with one array in memory at a time if the format allows it. Single-file formats can be written to a
 * pipe or to standard output.
 * Throws BAD_WEIGHTS with every array that does not fit, what reading throws, FILE_UNWRITABLE, and BAD_FORMAT for what the format cannot hold.
 */
export async function exportWeights(options: ExportOptions): Promise<ExportOutcome> {
  const { weights, format, out, model } = options;
  const table = parameterTable(modelSizes(model));
  assertArraysMatch(weights, table, REMEDY);
  if (format === "pdparams") return exportPickles(options, table);
  if (format === "paddle-vars") return exportVariables(options, table);
  if (await isStream(out)) await writeStream(out, await encode(options, table));
  else {
    await assertReplaceable(out, options.overwrite);
    await writeFileAtomic(out, await encode(options, table));
  }
  return { files: [out], optimizer: null };
}

async function encode({ weights, format, model, configYaml, version }: ExportOptions, table: readonly Parameter[]): Promise<Content> {
  if (format === "npz") return encodeNpz(readHostArrays(weights, table));
  // Both formats list all arrays before the data of the first one.
  requireMemory("exporting these weights", { parameters: 4 * countParameters(table).all });
  const arrays = await gatherHostArrays(weights, table);
  if (format === "safetensors") {
    const metadata: Record<string, string> = configYaml === null ? {} : { [CONFIG_KEY]: configYaml };
    return encodeSafetensors(
      arrays.map((array) => ({ ...array, dtype: "F32" })),
      metadata,
    );
  }
  const options = { sizes: modelSizes(model), dropRates: dropRates(model), maxFrames: model.max_frames };
  return encodeOnnx(buildOnnxModel({ ...options, weights: arrays, version }));
}

/** Returns everything that Paddle saves besides the parameters; null if the weights have no moments. */
async function findOptimizer({ weights, schedule }: ExportOptions, table: readonly Parameter[]): Promise<AsyncIterable<HostArray> | null> {
  const trained = table.filter((parameter) => parameter.trained);
  const moments = trained.flatMap(({ name, shape }) => [1, 2].map((moment) => ({ name: `${name}_moment${moment}_0`, shape })));
  if (!moments.some(({ name }) => weights.entries.has(name))) return null;
  assertArraysMatch(weights, moments, REMEDY);
  const position = await findPosition(weights);
  return (async function* () {
    yield* readHostArrays(weights, moments);
    const names = trained.map(({ name }) => name);
    yield* optimizerScalars(position, names, schedule);
  })();
}

/** The steps that were taken, and the videos of an epoch: null if unknown. */
interface Position {
  readonly step: number;
  readonly videos: number | null;
}

/**
 * Returns what Paddle's Adam saves after `step` steps besides the moments: beta^(step + 1) of each parameter, the learning rate of the last step, and its
 * counter, step - 1, which is -1 before the first step (fluid/layers, autoincreased_step_counter, begin 0). Each is `[1]`.
 */
export function optimizerScalars({ step, videos }: Position, trained: readonly string[], schedule: ScheduleOptions): readonly HostArray[] {
  const scalar = (name: string, value: number): HostArray => ({ name, shape: [1], data: Float32Array.of(value) });
  const powers = trained.flatMap((name) => [
    scalar(`${name}_beta1_pow_acc_0`, BETA1 ** (step + 1)),
    scalar(`${name}_beta2_pow_acc_0`, BETA2 ** (step + 1)),
  ]);
  const rate = scalar("learning_rate", learningRateAt(Math.max(0, step - 1), schedule, videos));
  return [...powers, rate, { name: "@LR_DECAY_COUNTER@", shape: [1], data: BigInt64Array.of(BigInt(step - 1)) }];
}

async function findPosition(weights: WeightSource): Promise<Position> {
  if (weights.snapshot === null) return { step: (await findPaddleStep(weights, null)).step, videos: null };
  const { step, shards } = await readSnapshotState(weights.snapshot);
  return { step, videos: shards?.videos ?? null };
}

/** Writes PREFIX.pdparams, and PREFIX.pdopt if the weights have the optimizer state. */
async function exportPickles(options: ExportOptions, table: readonly Parameter[]): Promise<ExportOutcome> {
  if (await isStream(options.out)) {
    const what = "pdparams writes up to two files, not to a pipe or device";
    throw new NextvladError("FILE_UNWRITABLE", what, { file: options.out, remedy: "use the prefix of the two files as --out" });
  }
  const prefix = options.out.replace(/\.pdparams$/, "");
  const [parameters, state] = [`${prefix}.pdparams`, `${prefix}.pdopt`];
  await assertReplaceable(parameters, options.overwrite);
  const optimizer = await findOptimizer(options, table);
  if (optimizer === null) await assertNoOptimizerFile(state);
  else await assertReplaceable(state, options.overwrite);
  await writePickle(parameters, readHostArrays(options.weights, table));
  if (optimizer !== null) await writePickle(state, optimizer);
  return { files: optimizer === null ? [parameters] : [parameters, state], optimizer: optimizer !== null };
}

async function writePickle(path: string, arrays: AsyncIterable<HostArray>): Promise<void> {
  async function* entries(): AsyncGenerator<readonly [string, Picklable]> {
    for await (const { name, shape, data } of arrays) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      yield [name, pickleArrayPortably(data instanceof Float32Array ? "f4" : "i8", shape, bytes)];
    }
  }
  await writeFileAtomic(path, encodePickledDict(entries()));
}

/** Throws FILE_UNWRITABLE if a .pdopt file exists: it would be loaded as the optimizer state of these weights. */
async function assertNoOptimizerFile(file: string): Promise<void> {
  const found = await stat(file).catch(() => null);
  if (found === null) return;
  const what = "the file already exists: it is the optimizer state of other weights, and these weights have none to replace it";
  throw new NextvladError("FILE_UNWRITABLE", what, { file, remedy: "remove it, or use another --out" });
}

/** Writes a directory of variables: the parameters, and the optimizer state if the weights have it. */
async function exportVariables(options: ExportOptions, table: readonly Parameter[]): Promise<ExportOutcome> {
  const { weights, out } = options;
  await assertEmptyDirectory(out);
  const optimizer = await findOptimizer(options, table);
  async function* files(): AsyncGenerator<readonly [string, Content]> {
    for await (const array of readHostArrays(weights, table)) yield [array.name, encodePaddleVariable(array)];
    if (optimizer === null) return;
    for await (const array of optimizer) yield [array.name, encodePaddleVariable(array)];
  }
  await writeDirectoryAtomic(out, files());
  return { files: [out], optimizer: optimizer !== null };
}

/** Throws FILE_UNWRITABLE unless the path does not exist or is an empty directory. */
async function assertEmptyDirectory(path: string): Promise<void> {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code !== "ENOTDIR") throw fileError(error, path, "write");
    return null;
  });
  if (names?.length === 0) return;
  const what = names === null ? "not a directory" : "directory not empty";
  throw new NextvladError("FILE_UNWRITABLE", what, { file: path, remedy: "use another --out" });
}
