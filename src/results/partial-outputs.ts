import { basename } from "node:path";
import type { Sums } from "./partial-state.js";
import { RESULT_CODECS, type ResultEncoder } from "./result-codecs.js";
import { RESULT_FORMATS } from "./result-formats.js";
import type { ResultTarget } from "./result-writer.js";

/** Data collected from the videos besides their predictions; restored when a run resumes. */
export interface Tally {
  /** Bytes collected since the last `take`. */
  readonly length: number;
  take(): Uint8Array;
  /** Restores bytes that were taken, in order, in pieces whose length is a multiple of 8 bytes. */
  put(bytes: Uint8Array): void;
  /** Sums over the videos, by name; their lengths are fixed. */
  readonly sums: Sums;
}

/** A partial result file and its final path (`place`); null for a file that is not needed once the work is complete. */
export interface Output {
  readonly name: string;
  readonly place: string | null;
  /** Creates the encoder of the file, after the given number of videos has been written. */
  readonly start: (videos: number) => ResultEncoder;
  readonly pass: (piece: Uint8Array) => void;
}

/** The tally's file in a folder of partial results. */
export const TALLY_NAME = "tally.bin";

/** Returns the prediction files, if any, and the tally's file, if there is a tally. */
export function outputsOf(target: ResultTarget | null, tally: Tally | null): Output[] {
  return [...predictionOutputs(target), ...tallyOutputs(tally)];
}

function predictionOutputs(target: ResultTarget | null): Output[] {
  if (target === null) return [];
  const { path, formats, names } = target;
  return formats.map((format) => {
    const place = path + RESULT_FORMATS[format];
    return { name: basename(place), place, start: (videos) => RESULT_CODECS[format].createEncoder(names, videos), pass: () => undefined };
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
