import { readdir, stat } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { type Content, writeDirectoryAtomic, writeFileAtomic } from "../base/files.js";
import { encodeNpz } from "../formats/npz-encoder.js";
import { encodeOnnx } from "../formats/onnx-encoder.js";
import { encodePaddleVariable } from "../formats/paddle-variable-encoder.js";
import { encodePickledDict, NumpyArray } from "../formats/pickle-writer.js";
import { encodeSafetensors } from "../formats/safetensors.js";
import { buildOnnxModel } from "../model/onnx-network.js";
import { parameterTable } from "../model/parameters.js";
import { type ModelSection, modelSizes } from "../model/sizes.js";
import { type HostArray, readHostArrays } from "./host-arrays.js";
import { optimizerFile, readSnapshotState, requireWeights, weightsFile } from "./snapshot.js";

export type ExportFormat = "pdparams" | "paddle-vars" | "safetensors" | "npz" | "onnx";

/** What the optimizer's state has besides the moments. */
export type OptimizerScalars = (step: number, trained: readonly string[]) => readonly HostArray[];

export interface ExportOptions {
  readonly weights: string;
  readonly format: ExportFormat;
  /** A file; a directory for paddle-vars; for pdparams the prefix, with or without .pdparams. */
  readonly out: string;
  readonly model: ModelSection & { readonly drop_rate: number };
  readonly optimizerScalars: OptimizerScalars;
  /** Ours, for the formats that name their producer. */
  readonly version: string;
}

export interface ExportOutcome {
  readonly files: readonly string[];
  /** Whether the optimizer's state is among what was written; null where the format has no place for it. */
  readonly optimizer: boolean | null;
}

const REMEDY = "use the config that these weights were trained with, or other weights";

/** `nextvlad export`: writes weights in another format. Throws what reading the weights throws, FILE_UNWRITABLE, and BAD_FORMAT for what the format cannot hold. */
export async function exportWeights(options: ExportOptions): Promise<ExportOutcome> {
  const { format, out, model, version } = options;
  await requireWeights(options.weights);
  if (format === "pdparams") return exportPickles(options);
  if (format === "paddle-vars") return exportVariables(options);
  const weights = await readWeights(options);
  await writeFileAtomic(out, encode(weights));
  return { files: [out], optimizer: null };

  function encode(arrays: readonly HostArray[]): Content {
    if (format === "npz") return encodeNpz(arrays);
    if (format === "safetensors") return encodeSafetensors(arrays.map((array) => ({ ...array, dtype: "F32" })));
    return encodeOnnx(buildOnnxModel({ sizes: modelSizes(model), dropRate: model.drop_rate, weights: arrays, version }));
  }
}

function readWeights({ weights, model }: ExportOptions): Promise<readonly HostArray[]> {
  return readHostArrays(weightsFile(weights), parameterTable(modelSizes(model)), REMEDY);
}

async function bringsOptimizer(weights: string): Promise<boolean> {
  return (await stat(optimizerFile(weights)).catch(() => null)) !== null;
}

/** Everything that Paddle saves besides the parameters. */
async function readOptimizer({ weights, model, optimizerScalars }: ExportOptions): Promise<readonly HostArray[]> {
  const { step } = await readSnapshotState(weights);
  const trained = parameterTable(modelSizes(model)).filter((parameter) => parameter.trained);
  const moments = trained.flatMap(({ name, shape }) => [1, 2].map((moment) => ({ name: `${name}_moment${moment}_0`, shape })));
  const arrays = await readHostArrays(optimizerFile(weights), moments, REMEDY);
  return [
    ...arrays,
    ...optimizerScalars(
      step,
      trained.map(({ name }) => name),
    ),
  ];
}

/** PREFIX.pdparams and PREFIX.pdopt, one after the other, so that only one's arrays are in memory. */
async function exportPickles(options: ExportOptions): Promise<ExportOutcome> {
  const prefix = options.out.replace(/\.pdparams$/, "");
  const [parameters, state] = [`${prefix}.pdparams`, `${prefix}.pdopt`];
  if (!(await bringsOptimizer(options.weights))) {
    await refuseLeftover(state);
    await writePickle(parameters, readWeights(options));
    return { files: [parameters], optimizer: false };
  }
  await writePickle(parameters, readWeights(options));
  await writePickle(state, readOptimizer(options));
  return { files: [parameters, state], optimizer: true };
}

async function writePickle(path: string, reading: Promise<readonly HostArray[]>): Promise<void> {
  const entries = (await reading).map(({ name, shape, data }) => [name, new NumpyArray(shape, data)] as const);
  await writeFileAtomic(path, encodePickledDict(entries));
}

/** A .pdopt of other weights would pass for that of these. Throws FILE_UNWRITABLE. */
async function refuseLeftover(file: string): Promise<void> {
  const there = await stat(file).catch(() => null);
  if (there === null) return;
  const what = "the optimizer's state of other weights is there, and these bring none to put in its place";
  throw new NextvladError("FILE_UNWRITABLE", what, { file, remedy: "choose another place, or remove it" });
}

/** A directory of variables: the parameters and, where the weights bring it, the optimizer's state. */
async function exportVariables(options: ExportOptions): Promise<ExportOutcome> {
  const { out } = options;
  await refuseOccupied(out);
  const optimizer = await bringsOptimizer(options.weights);
  const arrays = [...(await readWeights(options)), ...(optimizer ? await readOptimizer(options) : [])];
  await writeDirectoryAtomic(out, new Map(arrays.map((array): [string, Content] => [array.name, encodePaddleVariable(array)])));
  return { files: [out], optimizer };
}

/** Throws FILE_UNWRITABLE unless there is nothing, or an empty directory. */
async function refuseOccupied(path: string): Promise<void> {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    if (error.code !== "ENOTDIR") throw fileError(error, path, "write");
    return null;
  });
  if (names?.length === 0) return;
  const what = names === null ? "this should be a directory, and is a file" : "the directory is not empty";
  throw new NextvladError("FILE_UNWRITABLE", what, { file: path, remedy: "choose another place for the directory of variables" });
}
