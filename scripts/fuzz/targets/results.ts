import { readResults } from "../../../src/results/result-reader.js";
import { drain, type Target } from "../target.js";

export const target: Target = { readers: [(file) => drain(readResults(file))] };
