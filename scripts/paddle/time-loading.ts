/**
 * Measures the time and peak memory of loading weights. Usage, after write_full_size.py and npm run build:
 *   node dist/scripts/paddle/time-loading.js WEIGHTS      (one path per process, because peak memory is per process)
 * Prints JSON: seconds to read the file only, seconds to open it and convert every array to floats, and the peak memory with the sizes to compare it with.
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
