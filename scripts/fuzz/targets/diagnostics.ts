import { parseDiagnostics } from "../../../src/evaluation/diagnostics.js";
import type { Target } from "../target.js";

export const target: Target = { readers: [(file, bytes) => parseDiagnostics(Buffer.from(bytes).toString("utf8"), file)] };
