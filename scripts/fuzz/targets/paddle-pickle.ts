import { openPaddlePickles } from "../../../src/checkpoints/paddle-pickle.js";
import type { WeightSource } from "../../../src/checkpoints/weight-source.js";
import { drain, type Target } from "../target.js";

/** Reads every array of a source. */
export async function readAllArrays(source: WeightSource): Promise<void> {
  try {
    await drain(source.read(new Set(source.entries.keys())));
  } finally {
    await source.close();
  }
}

export const target: Target = { readers: [async (file) => readAllArrays(await openPaddlePickles(file, [file]))] };
