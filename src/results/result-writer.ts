import { AtomicFile } from "../base/files.js";
import type { LabelNames } from "./label-names.js";
import { type Prediction, RESULT_CODECS, type ResultEncoder } from "./result-codecs.js";
import { RESULT_FORMATS, type ResultFormat } from "./result-formats.js";

/** Where results are written: one file per format. */
export interface ResultTarget {
  /** The path of the files without extension. */
  readonly path: string;
  /** At least one, without duplicates. */
  readonly formats: readonly ResultFormat[];
  /** For jsonl; null to write class indices only. */
  readonly names: LabelNames | null;
}

/** Writes predictions one at a time. */
export interface ResultWriter {
  /** Resolves when the next prediction can be written: if a file has `PENDING_LENGTH` or more pending, after they are written. */
  write(prediction: Prediction): Promise<void>;
}

/** Characters or bytes of a file that are buffered for one write. */
export const PENDING_LENGTH = 1 << 16;

/**
 * Runs `work`, which writes results incrementally, in constant memory. Moves the complete files to their final paths at the end; if `work` is stopped or throws,
 * discards them and keeps existing files.
 * Throws FILE_UNWRITABLE, and whatever `work` throws.
 */
export async function writeResults<T extends { readonly stopped: boolean }>(
  { path, formats, names }: ResultTarget,
  work: (writer: ResultWriter) => Promise<T>,
): Promise<T & { readonly resultFiles: readonly string[] }> {
  const outputs: { readonly file: AtomicFile; readonly encoder: ResultEncoder }[] = [];
  const flush = async (minLength: number): Promise<void> => {
    for (const { file, encoder } of outputs) if (encoder.length >= minLength) await file.write(encoder.take());
  };
  const write = (prediction: Prediction): Promise<void> => {
    for (const { encoder } of outputs) encoder.add(prediction);
    return flush(PENDING_LENGTH);
  };
  try {
    for (const format of formats) {
      const file = await AtomicFile.open(path + RESULT_FORMATS[format].extension);
      outputs.push({ file, encoder: RESULT_CODECS[format].createEncoder(names, 0) });
    }
    const outcome = await work({ write });
    if (outcome.stopped) return { ...outcome, resultFiles: [] };
    for (const { encoder } of outputs) encoder.end();
    await flush(0);
    for (const { file } of outputs) await file.commit();
    return { ...outcome, resultFiles: outputs.map(({ file }) => file.path) };
  } finally {
    for (const { file } of outputs) await file.discard();
  }
}
