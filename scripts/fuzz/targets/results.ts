import { readResults } from "../../../src/results/result-codecs.js";
import { drain, type Target } from "../target.js";

export const target: Target = { readers: [(file) => drain(readResults(file))] };
