import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { MODEL_SIZES, records, video } from "./bytes.js";

// Valid inputs shared by all attempts. Paths are relative to an attempt's directory, which is a sibling of `base`.

export const BASE = "../base";
export const CONFIG = `${BASE}/config.yaml`;
export const SHARD = `${BASE}/a.tfrecord`;
/** A list of two shards of six videos each. */
export const LIST = `${BASE}/shards.list`;
/** A model of a few hundred parameters, as a snapshot and in every weight format. */
export const MODEL = `${BASE}/model`;
export const SNAPSHOT = `${MODEL}/best`;
export const WEIGHTS = {
  safetensors: `${MODEL}/weights.safetensors`,
  npz: `${MODEL}/weights.npz`,
  pdparams: `${MODEL}/paddle.pdparams`,
  variables: `${MODEL}/variables`,
} as const;
/** Predictions for `LIST`, without the extension: `.pkl`, `.csv` or `.jsonl`. */
export const RESULTS = `${MODEL}/NEXTVLAD_infer_result`;
/** Partial results of an `infer` run that a corrupt record in `HALF_LIST` stopped; it resumes with `--on-corrupt skip-record`. */
export const PARTIAL = `${MODEL}/half/NEXTVLAD_infer_result.partial`;
export const HALF_LIST = `${BASE}/half.list`;

/** Files that no attempt may change. */
export const CANARY = "../canary";

const CLI = fileURLToPath(new URL("../../src/nextvlad.cjs", import.meta.url));
export const NEXTVLAD: readonly string[] = [process.execPath, CLI];

const VIDEOS = 6;

/** Writes the valid inputs to the scratch directory; the model only if `withModel` is set. */
export function makeBase(scratch: string, withModel: boolean): void {
  const base = join(scratch, "base");
  const write = (name: string, content: string | Uint8Array): void => writeFileSync(join(base, name), content);
  for (const name of ["base", "canary/directory", "work"]) mkdirSync(join(scratch, name), { recursive: true });
  for (const name of ["file", "directory/file", ".hidden"]) writeFileSync(join(scratch, "canary", name), "do not touch\n");
  const videos = (from: number): Uint8Array[] =>
    Array.from({ length: VIDEOS }, (_, i) =>
      video({ id: `clip${from + i}`, labels: [(from + i) % MODEL_SIZES.classes], frames: 2 + (i % 3) }),
    );
  write("a.tfrecord", records(...videos(0)));
  write("b.tfrecord", records(...videos(VIDEOS)));
  write("a.tfrecord.gz", gzipSync(records(...videos(0))));
  write("shards.list", "a.tfrecord\nb.tfrecord\n");
  // Long enough that some batches are processed before the reader reaches the corrupt record.
  const half = records(...Array.from({ length: 500 }, (_, i) => video({ id: `half${i}` })));
  half[half.length - 20] = (half[half.length - 20] as number) ^ 1;
  write("half.tfrecord", half);
  write("half.list", "half.tfrecord\n");
  write("labels.csv", `id,labels\n${Array.from({ length: 4 }, (_, i) => `own${i},${i}`).join("\n")}\n`);
  write("names.txt", Array.from({ length: MODEL_SIZES.classes }, (_, i) => `name ${i}`).join("\n"));
  const list = `${BASE}/shards.list`;
  const config = {
    MODEL: {
      num_classes: MODEL_SIZES.classes,
      video_feature_size: MODEL_SIZES.rgb,
      audio_feature_size: MODEL_SIZES.audio,
      cluster_size: 2,
      hidden_size: 4,
      groups: 2,
      expansion: 1,
      gating_reduction: 2,
    },
    TRAIN: { epoch: 1, batch_size: 4, learning_rate: 0.01, filelist: list, use_gpu: false, shuffle_buffer: 8 },
    VALID: { batch_size: 4, filelist: list },
    TEST: { batch_size: 4, filelist: list, use_gpu: false },
    INFER: { batch_size: 4, filelist: list, use_gpu: false },
  };
  write("config.yaml", `${JSON.stringify(config, null, 2)}\n`);
  if (withModel) makeModel(join(scratch, "work"));
}

function makeModel(directory: string): void {
  run(directory, ["train", "--config", CONFIG, "--save-dir", MODEL]);
  const exported = { safetensors: WEIGHTS.safetensors, npz: WEIGHTS.npz, pdparams: `${MODEL}/paddle`, "paddle-vars": WEIGHTS.variables };
  for (const [format, out] of Object.entries(exported)) run(directory, ["export", "--weights", SNAPSHOT, "--format", format, "--out", out]);
  run(directory, [
    "infer",
    "--weights",
    SNAPSHOT,
    "--filelist",
    LIST,
    "--save-dir",
    MODEL,
    "--format",
    "pickle,csv,jsonl",
    "--infer-topk",
    "3",
  ]);
  const half = ["infer", "--weights", SNAPSHOT, "--filelist", HALF_LIST, "--batch-size", "16", "--save-interval", "1"];
  run(directory, [...half, "--save-dir", `${MODEL}/half`], 1);
}

function run(cwd: string, args: readonly string[], exitCode = 0): void {
  const [program = "", ...rest] = [...NEXTVLAD, ...args];
  const { status, stderr } = spawnSync(program, rest, { cwd, encoding: "utf8" });
  if (status !== exitCode) throw new Error(`nextvlad ${args.join(" ")} ended with ${status}:\n${stderr}`);
}
