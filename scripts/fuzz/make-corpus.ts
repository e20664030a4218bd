import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateSync, gzipSync } from "node:zlib";
import { encodeVideo, writePickleShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";
import { encodeDiagnostics } from "../../src/evaluation/diagnostics.js";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { MistakeList } from "../../src/evaluation/mistakes.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import { writeResults } from "../../src/results/result-writer.js";
import { seedDirectory } from "./corpus.js";
import type { ParserName } from "./target.js";

// Generates the corpus from the golden files and with our own writers: node dist/scripts/fuzz/make-corpus.js, from the repository's root.

const GOLDEN = "test/golden";
const scratch = mkdtempSync(join(tmpdir(), "nextvlad-corpus-"));

function put(parser: ParserName, name: string, bytes: Uint8Array | string): void {
  mkdirSync(seedDirectory(parser), { recursive: true });
  writeFileSync(join(seedDirectory(parser), name.replaceAll(/[^\w.@-]+/g, "_")), bytes);
}

const golden = (path: string): Buffer => readFileSync(join(GOLDEN, path));
const goldenJson = (path: string): never => JSON.parse(golden(path).toString("utf8")) as never;
const fromBase64 = (text: string): Buffer => Buffer.from(text, "base64");

/** Makes a video with few features: rgb `[frames, 6]` and audio `[frames, 3]`, both uint8. */
function smallVideo(number: number, frames: number): Video {
  const bytes = (size: number): Uint8Array => Uint8Array.from({ length: frames * size }, (_, i) => (37 * i + number) % 256);
  return { id: `v${number}`, frames, rgb: bytes(6), audio: bytes(3), labels: Int32Array.of(number, number + 5) };
}

const videos = [smallVideo(0, 1), smallVideo(1, 3), smallVideo(2, 5)];

function putShards(): void {
  const shard = golden("data/train0000.tfrecord");
  const records: Buffer[] = [];
  for (let at = 0; at < shard.length; at = records.reduce((sum, record) => sum + record.length + 16, 0)) {
    records.push(shard.subarray(at + 12, at + 12 + Number(shard.readBigUInt64LE(at))));
  }
  const shortest = records.toSorted((a, b) => a.length - b.length)[0] as Buffer;
  put("sequence-example", "golden", shortest);
  for (const video of videos) put("sequence-example", video.id, encodeVideo(video));
  const { examples } = goldenJson("data/float_features.json") as { readonly examples: Readonly<Record<string, string>> };
  put("sequence-example", "floats", fromBase64(examples["unpacked floats"] as string));
  put("sequence-example", "unlabelled", encodeVideo({ ...smallVideo(3, 2), labels: new Int32Array(0) }));
  const small = Buffer.concat(videos.map((video) => encodeTfRecord(encodeVideo(video))));
  put("tfrecord", "golden", encodeTfRecord(shortest));
  put("tfrecord", "small", small);
  put("tfrecord", "small.gz", gzipSync(small));
  put("tfrecord", "small.zlib", deflateSync(small));
  put("tfrecord", "two-members.gz", Buffer.concat([gzipSync(small), gzipSync(small)]));
  put("tfrecord", "empty-record", encodeTfRecord(new Uint8Array(0)));
}

async function putPickles(): Promise<void> {
  const { files } = goldenJson("formats/pickles.json") as { readonly files: Readonly<Record<string, string>> };
  for (const [name, file] of Object.entries(files)) put("pickle", name, fromBase64(file));
  for (const name of readdirSync(join(GOLDEN, "formats/paddle"))) {
    if (/\.pd(params|opt)$/.test(name)) put("paddle-pickle", name, golden(`formats/paddle/${name}`));
  }
  put("paddle-pickle", "dygraph_p4.pdparams.gz", gzipSync(golden("formats/paddle/dygraph_p4.pdparams")));
  await writePickleShard(join(scratch, "small.pkl"), videos, 300);
  put("pickle-shard", "small.pkl", readFileSync(join(scratch, "small.pkl")));
  put("pickle-shard", "feat_fortran_short.pkl", golden("data/feat_fortran_short.pkl"));
}

function putArrays(): void {
  type Golden = { readonly name: string; readonly file: string };
  for (const { name, file } of goldenJson("formats/npy.json") as readonly Golden[]) put("npy", name, fromBase64(file));
  for (const { name, file } of goldenJson("features/npz.json") as readonly Golden[]) put("npz", name, fromBase64(file));
  const { file } = goldenJson("formats/safetensors.json") as Golden;
  put("safetensors", "golden", fromBase64(file));
  const tensor = { name: "w", dtype: "F32", shape: [2, 3], data: new Float32Array(6) } as const;
  put("safetensors", "one", Buffer.concat([...encodeSafetensors([tensor])]));
  put("safetensors", "none", Buffer.concat([...encodeSafetensors([], { format: "pt" })]));
}

function putVariables(): void {
  const directory = join(GOLDEN, "formats/paddle/dir");
  for (const name of readdirSync(directory)) put("paddle-variable", name, readFileSync(join(directory, name)));
  put("paddle-variable", "lodvar", golden("formats/paddle/lodvar"));
  put("paddle-variable", "combined", golden("formats/paddle/combined"));
  // Folder names at the length limit of each format, or long enough to require the extensions of GNU and pax.
  for (const [format, folderBytes] of [
    ["v7", 90],
    ["ustar", 150],
    ["gnu", 300],
    ["pax", 300],
  ] as const) {
    const names = [`--transform=s,^w$,${"l".repeat(folderBytes)}/w,`];
    const fixed = ["--owner=0", "--group=0", "--mtime=@0", "--mode=644", "--sort=name", "--blocking-factor=1"];
    const pax = format === "pax" ? ["--pax-option=delete=atime,delete=ctime"] : [];
    const tar = execFileSync("tar", [`--format=${format}`, ...fixed, ...pax, ...names, "-cf", "-", "-C", directory, "b", "w"]);
    put("tar", `${format}.tar`, tar);
    if (format === "ustar") put("tar", "ustar.tar.gz", gzipSync(tar));
  }
}

function putConfigs(): void {
  for (const name of readdirSync("configs")) put("config", name, readFileSync(join("configs", name)));
  put("config", "small.yaml", "MODEL: {num_classes: 12, feature_names: [rgb, audio]}\nTRAIN:\n  learning_rate: 1e-3\n  use_gpu: 'True'\n");
  put("config", "anchors.yaml", "VALID: &a {batch_size: 5, filelist: x}\nTEST: *a\nINFER:\n  <<: *a\n  num_readers: 2\n");
  put("config", "blocks.yaml", '%YAML 1.2\n---\nTRAIN:\n  ? filelist\n  : >-\n    a\n\n    b\n  epoch: !!int "3"\n# end\n...\n');
  put("config", "list.yaml", '["a.tfrecord", "b.tfrecord"]\n');
}

/** Environments that describe a cluster: of TF_CONFIG, its value and all variables, one per line; of Slurm, all variables. */
function putClusters(): void {
  const hosts = { chief: ["a:1"], worker: ["host-1.example.com:2222", "[fe80::1]:65535", "10.0.0.2:20000"] };
  for (const [name, value] of Object.entries({
    workers: { cluster: { worker: hosts.worker }, task: { type: "worker", index: 2 } },
    chief: { cluster: { ...hosts, evaluator: ["e:1"] }, task: { type: "chief", index: "0" }, environment: "cloud" },
  })) {
    put("cluster", `${name}.json`, JSON.stringify(value));
    put("cluster", `${name}.env`, `TF_CONFIG=${JSON.stringify(value)}\n`);
  }
  const step = ["SLURM_JOB_ID=1203", "SLURM_PROCID=3", "SLURM_STEP_NUM_TASKS=5", "SLURM_STEP_NODELIST=gpu[08-09],login"];
  put(
    "cluster",
    "slurm.env",
    [...step, "SLURM_STEP_TASKS_PER_NODE=2(x2),1", "SLURM_NODEID=1", "SLURM_DISTRIBUTION=block:cyclic"].join("\n"),
  );
}

async function putResults(): Promise<void> {
  const prediction = (number: number) => ({ id: `v,"${number}é`, scores: Float32Array.of(0.5, 1e-7), classes: Int32Array.of(number, 7) });
  const path = join(scratch, "results");
  await writeResults({ path, formats: ["pickle", "csv", "jsonl"], names: null }, async (writer) => {
    for (const number of [0, 1, 2]) await writer.write(prediction(number));
    return { stopped: false };
  });
  for (const name of readdirSync(scratch)) if (name.startsWith("results")) put("results", name, readFileSync(join(scratch, name)));
}

function putDiagnostics(): void {
  const [metrics, mistakes] = [new MetricsAccumulator(3), new MistakeList(3)];
  const predictions = Float32Array.of(0.75, 0.5, 0.25, 0.125, 0.5, 0.25);
  const labels = [Int32Array.of(1, 2), Int32Array.of(1)];
  metrics.add(predictions, labels);
  mistakes.add(["a", "b"], predictions, labels);
  const nameOf = (c: number): string | null => ["zero", null, "two"][c] ?? null;
  put("diagnostics", "small.json", encodeDiagnostics({ ...metrics.analyze(), positives: metrics.sums.positives, nameOf, mistakes }));
}

function putRunLogs(): void {
  const step = (number: number) => ({
    level: 30,
    time: "2026-01-01T00:00:00.000Z",
    epoch: 0,
    step: number,
    loss: 3.5,
    learning_rate: 1e-3,
  });
  const lines = [step(0), step(10), { level: 40, msg: "slow" }, { level: 30, epoch: 0, loss: 2, gap: 0.5, map: 0.25 }, step(5), step(15)];
  put("run-log", "small.jsonl", lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}

function putClassLists(): void {
  const names = Array.from({ length: 12 }, (_, c) => `class ${c}`);
  put("class-list", "names.txt", names.map((name) => `${name}\n`).join(""));
  put("class-list", "youtube8m.csv", `Index,TrainVideoCount,Name\r\n${names.map((name, c) => `${c},5,"${name}, ""x"""\r\n`).join("")}`);
  put("class-list", "audioset.csv", "index,mid,display_name\n0,/m/09x0r,Speech\n11,/m/05zppz,\n");
  put("class-list", "segments.csv", "Index\n3\n 7 \n\n3\n");
}

try {
  putShards();
  await putPickles();
  putArrays();
  putVariables();
  putConfigs();
  putClusters();
  await putResults();
  putDiagnostics();
  putRunLogs();
  putClassLists();
} finally {
  rmSync(scratch, { recursive: true });
}
