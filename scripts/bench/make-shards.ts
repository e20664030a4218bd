import { parseArgs } from "node:util";
import { makeShards, type ShardSettings } from "./shards.js";

const USAGE = "usage: make-shards DIR [--videos 800] [--per-shard 100] [--frames 120..300] [--classes 3862] [--seed 1]";

function readSettings(): ShardSettings {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      videos: { type: "string", default: "800" },
      "per-shard": { type: "string", default: "100" },
      frames: { type: "string", default: "120..300" },
      classes: { type: "string", default: "3862" },
      seed: { type: "string", default: "1" },
    },
  });
  const [minFrames = Number.NaN, maxFrames = minFrames] = values.frames.split("..").map(Number);
  const settings = {
    directory: positionals[0] ?? "",
    videos: Number(values.videos),
    perShard: Number(values["per-shard"]),
    frames: [minFrames, maxFrames] as const,
    features: { rgb: 1024, audio: 128 },
    classes: Number(values.classes),
    seed: Number(values.seed),
  };
  const counts = [settings.videos, settings.perShard, minFrames, maxFrames, settings.classes];
  if (positionals.length !== 1 || minFrames > maxFrames || !counts.every((count) => Number.isInteger(count) && count > 0))
    throw new Error(USAGE);
  return settings;
}

try {
  process.stdout.write(`${await makeShards(readSettings())}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
