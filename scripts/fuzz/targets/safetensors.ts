import { openSafetensors } from "../../../src/checkpoints/safetensors-source.js";
import { readSafetensors } from "../../../src/formats/tensors/safetensors.js";
import type { Target } from "../target.js";
import { readAllArrays } from "./paddle-pickle.js";

export const target: Target = {
  readers: [
    (file) => readSafetensors(file),
    async (file) => readAllArrays(await openSafetensors(file, [file], { form: "a safetensors file", snapshot: null })),
  ],
};
