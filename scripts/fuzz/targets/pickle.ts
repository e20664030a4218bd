import { readPickledItems } from "../../../src/formats/pickle-items.js";
import { parsePickle } from "../../../src/formats/pickle-reader.js";
import { drain, type Target } from "../target.js";

export const target: Target = { readers: [(file, bytes) => parsePickle(bytes, file), (file) => drain(readPickledItems(file))] };
