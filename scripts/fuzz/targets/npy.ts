import { readFeatureFile } from "../../../src/conversion/own-features.js";
import { readNpy } from "../../../src/formats/tensors/npy.js";
import type { Target } from "../target.js";

export const target: Target = { readers: [(file) => readNpy(file), (file) => readFeatureFile(file, "rgb", [-2, 2])] };
