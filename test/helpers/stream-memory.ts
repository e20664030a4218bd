import { openStream, type StreamOptions } from "../../src/data/stream.js";

// Streams what the options (the one argument, JSON) say. Prints the bytes that passed, and by how many megabytes the process had grown at most in each half.
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
