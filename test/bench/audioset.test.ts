import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, test } from "node:test";
import { benchAudioset, readAudiosetArguments } from "../../scripts/bench/audioset.js";
import { formatPasses } from "../../scripts/bench/audioset-passes.js";
import { readPeerPace } from "../../scripts/bench/audioset-training.js";
import { audiosetConfigOf, ROOT } from "../../scripts/bench/checkout.js";
import { makeReport } from "../../scripts/bench/report.js";
import { temporaryFolder } from "../helpers/files.js";

describe("the arguments of audioset", () => {
  test("have defaults", () => {
    const found = readAudiosetArguments(["data"]);
    const expected = { seeds: [0, 1, 2], epochs: 12, pairs: 5, isa: null, peers: undefined, against: null, json: false };
    assert.deepEqual(found, { directory: resolve("data"), ...expected });
  });

  test("none trains with no seed", () => {
    assert.deepEqual(readAudiosetArguments(["data", "--seeds", "none", "--isa", "avx2"]).seeds, []);
  });

  for (const [args, key] of [
    [[], "DIR"],
    [["a", "b"], "DIR"],
    [["a", "--seeds", "1,x"], "--seeds"],
    [["a", "--seeds", ""], "--seeds"],
    [["a", "--epochs", "0"], "--epochs"],
    [["a", "--pairs", "1.5"], "--pairs"],
    [["a", "--isa", "avx"], "--isa"],
  ] as const) {
    test(`${args.join(" ") || "nothing"} is invalid`, () => {
      assert.throws(() => readAudiosetArguments(args), { code: "BAD_USAGE", message: new RegExp(`^${key}: `) });
    });
  }

  test("an unknown option is invalid", () => {
    assert.throws(() => readAudiosetArguments(["a", "--sede", "1"]), { code: "BAD_USAGE", message: /--sede/ });
  });
});

test("the speed of AudioSet's peer is that of whole batches over the seconds of its epochs", () => {
  assert.equal(readPeerPace("300 10\nepoch 0 loss 3.2000 1.5 s\nepoch 1 loss 2.9000 0.5 s\nmAP 0.2 mAUC 0.9 over 5 classes\n"), 256);
});

test("audioset names a missing script or package of the peer before it reads any data", async (t) => {
  const folder = temporaryFolder(t);
  const peers = process.env.NEXTVLAD_PEERS;
  t.after(() => {
    if (peers === undefined) delete process.env.NEXTVLAD_PEERS;
    else process.env.NEXTVLAD_PEERS = peers;
  });
  process.env.NEXTVLAD_PEERS = folder;
  const python = join(folder, "python");
  writeFileSync(python, '#!/bin/sh\ncase "$2" in *torch*) echo True;; *) echo False;; esac\n', { mode: 0o755 });
  const bench = () => benchAudioset([join(folder, "no-data"), "--peers", python], join(folder, "out"), new AbortController().signal);
  await assert.rejects(bench(), { code: "FILE_MISSING", message: /audioset_torch\.py/ });
  writeFileSync(join(folder, "audioset_torch.py"), "");
  await assert.rejects(bench(), { code: "NOT_SET_UP", message: /cannot import sklearn/ });
});

test("the shares of eval and infer are of the rate in memory, and start-up is compared with the other checkout's", () => {
  const memory = { batch: 128, frames: 10, steps: 20, precision: "float32", isa: null, use_gpu: false } as const;
  const task = { mode: "infer", config: audiosetConfigOf(ROOT), ...memory } as const;
  const ours = { task, rate: 4000, peak_gib: 1, seconds: [0.032], network: null };
  const peers = [{ name: "torch", rate: 2000, peak_gib: 1 }];
  const forward = makeReport(task, [{ ours, from_shards: null, variants: [], peers }]);
  const timing = { videos: 10_000, seconds: 5, first_batch_seconds: 1, rest_rate: 3600, wait_share: 0.02 };
  const passes = [
    { command: "eval", checkout: null, timings: [timing] },
    { command: "eval", checkout: "before", timings: [{ ...timing, first_batch_seconds: 2.5 }] },
  ] as const;
  const lines = formatPasses({ forward, passes: passes.map((pass) => ({ ...pass, timings: [...pass.timings] })) }).split("\n");
  const cells = (start: string): string[] => lines.find((line) => line.startsWith(`| ${start}`))?.split(" | ") ?? [];
  assert.equal(cells("torch").at(-1), "2.00 (2.00..2.00) |");
  const share = ["90.0 (90.0..90.0)", "50.0 (50.0..50.0)", "2.0 (2.0..2.0) |"];
  assert.deepEqual(cells("eval of 10000 clips |").slice(1), ["1.00 (1.00..1.00)", "0.40 (0.40..0.40)", "3600 (3600..3600)", ...share]);
  assert.deepEqual(cells("eval of 10000 clips, before").slice(1), ["2.50 (2.50..2.50)", "", "3600 (3600..3600)", "", "", share[2]]);
});
