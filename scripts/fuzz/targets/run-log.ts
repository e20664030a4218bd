import { readRunLog } from "../../../src/report/run-log.js";
import type { Target } from "../target.js";

export const target: Target = { readers: [(file) => readRunLog(file)] };
