import { readNpz } from "../../../src/formats/tensors/npz.js";
import type { Target } from "../target.js";

export const target: Target = { readers: [(file) => readNpz(file, (names) => names[0] ?? "rgb"), (file) => readNpz(file, () => "audio")] };
