import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { blockFiles } from "../helpers/files.js";
import { compiled, interruptNextvlad, runNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";

let folder: string;
let config: string;
const at = (name: string): string => join(folder, name);

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  config = await prepareRun(folder);
  execFileSync("mkfifo", ["fifo", "fifo.tfrecord", "fifo.npy", "fifo.pkl"].map(at));
  writeFileSync(at("shards.list"), "train0.tfrecord\nfifo.tfrecord\n");
  writeFileSync(at("pickles.list"), "fifo.pkl\n");
  writeFileSync(at("table.csv"), "id,labels\nfifo,1\n");
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Commands by the input that is a FIFO without a writer, and the file that the error names. */
const REFUSED: readonly (readonly [input: string, args: () => readonly string[], file: string])[] = [
  ["weights", () => ["eval", "--weights", at("fifo"), "--config", config], "fifo"],
  ["weights to export", () => ["export", "--weights", at("fifo"), "--format", "npz", "--out", at("out.npz")], "fifo"],
  ["weights to inspect", () => ["inspect", at("fifo")], "fifo"],
  ["eigen file", () => ["train", "--config", config, "--set", `MODEL.eigen_file=${at("fifo.npy")}`], "fifo.npy"],
  ["shard in a list", () => ["train", "--config", config, "--set", `TRAIN.filelist=${at("shards.list")}`], "fifo.tfrecord"],
  ["shard to verify", () => ["verify", at("shards.list"), "--config", config], "fifo.tfrecord"],
  ["pickle to convert", () => ["convert", "--to", "tfrecord", "--filelist", at("pickles.list")], "fifo.pkl"],
  ["features", () => ["convert", "--to", "tfrecord", "--csv", at("table.csv"), "--rgb", at("{id}.npy")], "fifo.npy"],
  ["results", () => ["ensemble", at("fifo"), at("fifo")], "fifo"],
  ["label names", () => ["infer", "--labels", at("fifo"), "--format", "jsonl"], "fifo"],
];

describe("a FIFO without a writer is rejected within a second, as", () => {
  let runs = 0;
  for (const [input, args, file] of REFUSED) {
    test(input, async () => {
      const given = [...args()];
      const [command] = given;
      const out = at(`out${runs++}`);
      if (command === "convert") given.push("--out", out);
      else if (["train", "eval", "infer", "ensemble"].includes(command as string)) given.push("--save-dir", out);
      if (command === "infer") given.push("--weights", await trainedWeights());
      const since = performance.now();
      const { exitCode, stdout, stderr, error } = await runNextvlad(given);
      const ms = performance.now() - since;
      assert.equal(exitCode, 1, stderr);
      assert.match(stdout + error, new RegExp(`${at(file).replaceAll(".", "\\.")}: cannot read: it is a pipe, not a file`));
      // Starting threads on a busy machine takes time too; a command that waits would never exit.
      assert.ok(ms < 10_000, `${ms} ms`);
    });
  }
});

let weights: Promise<string> | undefined;
function trainedWeights(): Promise<string> {
  weights ??= (async () => {
    const { exitCode, stderr } = await runNextvlad([
      "train",
      ...["--config", config, "--save-dir", at("run"), "--epoch", "1", "--valid-interval", "0"],
    ]);
    assert.equal(exitCode, 0, stderr);
    return at("run/NEXTVLAD_epoch0");
  })();
  return weights;
}

describe("a wait for a FIFO is reported within a second and ends with SIGTERM:", { concurrency: 2 }, () => {
  const waits = [
    ["list", () => ["verify", at("fifo")]],
    ["config", () => ["train", "--config", at("fifo"), "--save-dir", at("waiting")]],
    ["table of labels", () => ["convert", "--to", "tfrecord", "--csv", at("fifo"), "--rgb", at("{id}.npy"), "--out", at("converted")]],
  ] as const;
  for (const [input, args] of waits) {
    test(input, async () => {
      let reportedMs = 0;
      const { exitCode, signal, output } = await interruptNextvlad(args(), `waiting for data from ${at("fifo")} (a pipe)\n`, (child) => {
        reportedMs = performance.now();
        child.kill("SIGTERM");
      });
      // Before there is anything to save, the signal kills the process, which shells report as 143 too.
      assert.ok(exitCode === 143 || signal === "SIGTERM", output);
      assert.ok(performance.now() - reportedMs < 10_000);
      if (input === "table of labels") assert.equal(existsSync(at("converted")), false);
    });
  }
});

test("if a read never returns during training, SIGTERM saves and the process exits", async (t) => {
  const own = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  t.after(() => rmSync(own, { recursive: true, force: true }));
  const ownConfig = await prepareRun(own);
  // In the first epoch: later ones read small shards from memory. Enough shards that the first steps don't wait for the last ones.
  const shards = Array.from({ length: 64 }, (_, i) => join(own, `copy${i}.tfrecord`));
  for (const shard of shards) copyFileSync(join(own, "train0.tfrecord"), shard);
  writeFileSync(join(own, "train.list"), `${shards.join("\n")}\n`);
  const held = shards.map((shard) => `${shard}.held`);
  for (const path of held) copyFileSync(join(own, "train0.tfrecord"), path);
  await blockFiles(t, held);
  const saveDir = join(own, "out");
  const args = ["train", "--config", ownConfig, "--save-dir", saveDir, "--valid-interval", "0", "--set", "TRAIN.num_readers=1"];
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), ...args], { timeout: 60_000 });
  let output = "";
  let quiet: NodeJS.Timeout | undefined;
  const onOutput = (chunk: Buffer): void => {
    output += chunk.toString();
    if (quiet === undefined && output.includes("[TRAIN] Epoch 0, iter 0 ")) {
      for (const [i, shard] of shards.entries()) renameSync(held[i] as string, shard);
      // When no more steps are reported, the run is waiting for a shard.
      quiet = setTimeout(() => child.kill("SIGTERM"), 2000);
    } else if (!output.includes("SIGTERM")) quiet?.refresh();
  };
  child.stdout.on("data", onOutput);
  child.stderr.on("data", onOutput);
  assert.deepEqual(await once(child, "close"), [null, "SIGKILL"], output);
  assert.match(output, /\[TRAIN\] train stopped\. /);
  assert.match(output, /killing the process instead of exiting with 143/);
  const last = /last snapshot: \S+\/(NEXTVLAD_\w+)\n/.exec(output)?.[1] ?? "";
  assert.ok(readdirSync(saveDir).includes(last), output);
});
