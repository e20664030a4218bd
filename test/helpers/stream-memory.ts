import { openStream, type StreamOptions } from "../../src/data/stream.js";

// Reads a stream with the options in the argument (JSON). Prints the bytes read, and the maximum growth of the process's memory (RSS) in megabytes in each
// half.
const options = JSON.parse(process.argv[2] as string) as StreamOptions;
const before = process.memoryUsage().rss;
const stream = openStream(options);
const grownMb = [0, 0];
let bytes = 0;
for await (const { rgb, audio } of stream) {
  bytes += rgb.length + audio.length;
  const half = stream.fraction <= 0.5 ? 0 : 1;
  grownMb[half] = Math.max(grownMb[half] as number, Math.round((process.memoryUsage().rss - before) / 1e6));
}
process.stdout.write(JSON.stringify({ bytes, grownMb }));
