import { parsePickle, readPickledItems } from "../../../src/formats/pickle/unpickler.js";
import { drain, type Target } from "../target.js";

export const target: Target = { readers: [(file, bytes) => parsePickle(bytes, file), (file) => drain(readPickledItems(file))] };
