import { AtomicFile } from "../base/files.js";
import type { LabelNames } from "./label-names.js";
import type { Prediction } from "./prediction.js";
import { createEncoder, type ResultEncoder } from "./result-encoders.js";
import { RESULT_FORMATS, type ResultFormat } from "./result-formats.js";

/** What results go to: a file for each format. */
export interface ResultTarget {
  /** The files' path without its ending. */
  readonly path: string;
  /** Each once, at least one. */
  readonly formats: readonly ResultFormat[];
  /** For jsonl; null: class numbers alone. */
  readonly names: LabelNames | null;
}

/** Takes predictions, one after the other. */
export interface ResultWriter {
  /** Resolves when more may come, which is when the disk has what is more than `PENDING_LENGTH`. */
  write(prediction: Prediction): Promise<void>;
}

/** Characters or bytes of a file that are gathered for one write. */
export const PENDING_LENGTH = 1 << 16;

/**
 * Lets `work` write results as they are made, so that memory does not grow with their number. The files appear, each whole, when it was not stopped; if it was, or
 * threw, nothing is left of them, and files that were there before stay. Throws FILE_UNWRITABLE, and whatever `work` throws.
 */
export async function writeResults<T extends { readonly stopped: boolean }>(
  { path, formats, names }: ResultTarget,
  work: (writer: ResultWriter) => Promise<T>,
): Promise<T & { readonly resultFiles: readonly string[] }> {
  const outputs: Output[] = [];
  try {
    for (const format of formats) outputs.push(await openOutput(path + RESULT_FORMATS[format], createEncoder(format, names)));
    const outcome = await work({ write: (prediction) => writeToAll(outputs, prediction) });
    if (outcome.stopped) return { ...outcome, resultFiles: [] };
    for (const output of outputs) {
      output.encoder.end();
      await flush(output);
    }
    for (const { file } of outputs) await file.commit();
    return { ...outcome, resultFiles: outputs.map(({ file }) => file.path) };
  } finally {
    for (const { file } of outputs) await file.discard();
  }
}

interface Output {
  readonly file: AtomicFile;
  readonly encoder: ResultEncoder;
}

async function openOutput(path: string, encoder: ResultEncoder): Promise<Output> {
  return { file: await AtomicFile.open(path), encoder };
}

async function flush({ file, encoder }: Output): Promise<void> {
  await file.write(encoder.take());
}

async function writeToAll(outputs: readonly Output[], prediction: Prediction): Promise<void> {
  for (const { encoder } of outputs) encoder.add(prediction);
  for (const output of outputs) if (output.encoder.length >= PENDING_LENGTH) await flush(output);
}
