/**
 * Times the loading of weights and takes its peak memory. Usage, after write_full_size.py and npm run build:
 *   node dist/scripts/paddle/time-loading.js WEIGHTS      (one path a process, as the peak is the process's)
 * Prints JSON: seconds to read the file alone, seconds to open it and turn every array into floats, and the peak beside the sizes it is held against.
 */
import { readFile, stat } from "node:fs/promises";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { floatsOf } from "../../src/checkpoints/weight-source.js";

const path = process.argv[2];
if (path === undefined) throw new Error("usage: time-loading.js WEIGHTS");
const file = await stat(path);
const idleMiB = process.resourceUsage().maxRSS / 1024;
const start = performance.now();
const source = await openWeights(path, { optimizer: false });
let arraysBytes = 0;
for await (const array of source.read(new Set(source.entries.keys()))) {
  if (array.dtype === "f4") arraysBytes += floatsOf(array, path).byteLength;
}
const loadedMs = performance.now() - start;
await source.close();
const peakMiB = process.resourceUsage().maxRSS / 1024 - idleMiB;
const readStart = performance.now();
if (file.isFile()) await readFile(path);
const readMs = performance.now() - readStart;
const toMiB = (bytes: number): number => Math.round(bytes / 2 ** 20);
const togetherMiB = toMiB(file.size + arraysBytes);
const figures = {
  readSeconds: readMs / 1000,
  loadSeconds: loadedMs / 1000,
  beyondReadingSeconds: (loadedMs - readMs) / 1000,
  fileMiB: toMiB(file.size),
  arraysMiB: toMiB(arraysBytes),
  peakMiB: Math.round(peakMiB),
  peakOfFileAndArrays: peakMiB / togetherMiB,
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
