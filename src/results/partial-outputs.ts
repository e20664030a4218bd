import { basename } from "node:path";
import type { Sums } from "./partial-state.js";
import { createEncoder, type ResultEncoder } from "./result-encoders.js";
import { RESULT_FORMATS } from "./result-formats.js";
import type { ResultTarget } from "./result-writer.js";

/** What is gathered of the videos besides their predictions, and must be whole again when the work goes on. */
export interface Tally {
  /** Bytes gathered since the last `take`. */
  readonly length: number;
  take(): Uint8Array;
  /** Gives back what was taken, in order and in pieces of any multiple of 8 bytes. */
  put(bytes: Uint8Array): void;
  /** Sums over the videos, by name; their lengths do not change. */
  readonly sums: Sums;
}

/** A file of results on its way, and its place; null for a file that is of no use once the work is done. */
export interface Output {
  readonly name: string;
  readonly place: string | null;
  /** Makes what fills the file, where so many videos have been written. */
  readonly start: (videos: number) => ResultEncoder;
  readonly pass: (piece: Uint8Array) => void;
}

/** The tally's file in a folder of partial results. */
export const TALLY_NAME = "tally.bin";

/** The files of predictions, if any, and the tally's, if there is one. */
export function outputsOf(target: ResultTarget | null, tally: Tally | null): Output[] {
  return [...predictionOutputs(target), ...tallyOutputs(tally)];
}

function predictionOutputs(target: ResultTarget | null): Output[] {
  if (target === null) return [];
  const { path, formats, names } = target;
  return formats.map((format) => {
    const place = path + RESULT_FORMATS[format];
    return { name: basename(place), place, start: (videos) => createEncoder(format, names, videos), pass: () => undefined };
  });
}

function tallyOutputs(tally: Tally | null): Output[] {
  if (tally === null) return [];
  const encoder: ResultEncoder = {
    get length() {
      return tally.length;
    },
    add: () => undefined,
    end: () => undefined,
    take: () => tally.take(),
  };
  return [{ name: TALLY_NAME, place: null, start: () => encoder, pass: (piece) => tally.put(piece) }];
}
