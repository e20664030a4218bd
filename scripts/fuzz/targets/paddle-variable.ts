import { looksLikePaddleVariable, parseVariableHeader, VARIABLE_HEAD_BYTES } from "../../../src/formats/tensors/paddle-variable.js";
import type { Target } from "../target.js";

export const target: Target = {
  readers: [
    (file, bytes) => parseVariableHeader(bytes.subarray(0, VARIABLE_HEAD_BYTES), bytes.length, file),
    (_, bytes) => looksLikePaddleVariable(bytes),
  ],
};
