import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { writeFileAtomic } from "../base/files.js";
import { assertReplaceable } from "../base/output-checks.js";
import { formatFileList } from "../data/file-list.js";
import { writeShard } from "../data/shard-writer.js";
import type { Video } from "../data/video.js";
import { makeDigitVideo, type Split } from "./digit-video.js";
import { type DigitImages, type MnistPart, readMnist } from "./mnist.js";

const VIDEOS_PER_SHARD = 250;
const PARTS: Record<Split, MnistPart> = { train: "train", validate: "t10k" };

/** Options of `generateDigits`. */
export interface DigitsOptions {
  /** Output directory. Created if it is missing; must not contain other shards. */
  readonly out: string;
  readonly trainVideos: number;
  readonly validateVideos: number;
  readonly seed: number;
  /** Whether existing shards and lists may be replaced. */
  readonly overwrite?: boolean;
  readonly log: (line: string) => void;
}

/**
 * Writes videos of handwritten digits in YouTube-8M's frame-level format: `train0000.tfrecord` and so on from MNIST's training images, `validate0000.tfrecord`
 * and so on from its test images, then `train.list` and `validate.list`. The names in a list are relative to the list's directory, which can therefore be moved.
 * The same seed produces the same bytes. Returns the paths of all files, the lists last.
 * Throws SAVE_DIR_TAKEN if shards exist already, FILE_UNWRITABLE (also if a list exists), and what `readMnist` throws.
 */
export async function generateDigits(options: DigitsOptions): Promise<{ readonly files: readonly string[] }> {
  await assertNoForeignShards(options);
  const shards = [
    ...(await writeSplit("train", options.trainVideos, options)),
    ...(await writeSplit("validate", options.validateVideos, options)),
  ];
  const lists: string[] = [];
  for (const split of ["train", "validate"] as const) {
    const list = join(options.out, `${split}.list`);
    await writeFileAtomic(list, formatFileList(shards.filter((name) => name.startsWith(split))));
    lists.push(list);
  }
  return { files: [...shards.map((name) => join(options.out, name)), ...lists] };
}

/**
 * Throws SAVE_DIR_TAKEN if the directory contains shards that this run does not replace. Real YouTube-8M shards have the same names, and a pattern like
 * `train*.tfrecord` would mix two generations of different length. With `overwrite`, shards that are replaced may exist.
 */
async function assertNoForeignShards({ out: directory, trainVideos, validateVideos, overwrite = false }: DigitsOptions): Promise<void> {
  for (const split of ["train", "validate"]) await assertReplaceable(join(directory, `${split}.list`), overwrite);
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw fileError(error, directory, "write");
  });
  const own = new Set(overwrite ? [...shardNames("train", trainVideos), ...shardNames("validate", validateVideos)] : []);
  const shards = names.filter((name) => name.endsWith(".tfrecord") && !own.has(name));
  if (shards.length === 0) return;
  throw new NextvladError("SAVE_DIR_TAKEN", `the directory already contains other shards, such as ${shards.sort()[0]}`, {
    file: directory,
    remedy: "use another --out, or remove them",
  });
}

function shardNames(split: Split, videos: number): string[] {
  return Array.from({ length: Math.ceil(videos / VIDEOS_PER_SHARD) }, (_, i) => `${split}${String(i).padStart(4, "0")}.tfrecord`);
}

/** Writes the shards of a split and returns their names. */
async function writeSplit(split: Split, videos: number, { out, seed, log }: DigitsOptions): Promise<string[]> {
  const images = await readMnist(PARTS[split]);
  const names = shardNames(split, videos);
  for (const [number, name] of names.entries()) {
    const first = number * VIDEOS_PER_SHARD;
    const end = Math.min(first + VIDEOS_PER_SHARD, videos);
    await writeShard(join(out, name), makeVideos(split, first, end, seed, images));
    log(`${join(out, name)}: ${end - first} videos (${end} of ${videos} for ${split})`);
  }
  return names;
}

function* makeVideos(split: Split, first: number, end: number, seed: number, images: DigitImages): Generator<Video> {
  for (let number = first; number < end; number++) yield makeDigitVideo(seed, split, number, images);
}
