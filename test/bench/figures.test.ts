import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { countArithmetic, countStep } from "../../scripts/bench/arithmetic.js";
import { benchAudioset, readPeerPace } from "../../scripts/bench/audioset.js";
import { parseResults } from "../../scripts/bench/peers.js";
import { ratiosToFastest, spreadOf } from "../../scripts/bench/statistics.js";
import { frameCounts } from "../../scripts/bench/workload.js";
import { loadConfig } from "../../src/config/load.js";
import { modelSizes } from "../../src/model/sizes.js";

const config = await loadConfig(fileURLToPath(new URL("../../../configs/nextvlad.yaml", import.meta.url)));
const sizes = modelSizes(config.MODEL);

/** Within a share of a figure that was worked out by hand to two or three digits. */
function assertNear(found: number, expected: number, share: number): void {
  assert.ok(Math.abs(found / expected - 1) <= share, `${found} is not near ${expected}`);
}

describe("arithmetic of the full-size network", () => {
  test("a frame takes 7.2 MFLOP forward, 15 forward and backward", () => {
    assertNear(countArithmetic(sizes, "infer").frame, 7.2e6, 0.01);
    assertNear(countArithmetic(sizes, "train").frame, 15e6, 0.01);
  });

  test("a video of 300 frames takes 5.0 GFLOP in training, without the fold", () => {
    const { frame, video } = countArithmetic(sizes, "train");
    assertNear(300 * frame + video, 5.0e9, 0.01);
  });

  test("the fold is made once a step of training, and not in inference", () => {
    assert.equal(countArithmetic(sizes, "infer").step, 0);
    // Three times W Wc and W Wa of both streams.
    assert.equal(countArithmetic(sizes, "train").step, 3 * 2 * (1024 * 2048 + 128 * 256) * (1024 + 8));
  });

  test("a step counts the frames there are", () => {
    assert.equal(countStep({ frame: 10, video: 1000, step: 50_000 }, Int32Array.of(3, 4)), 70 + 2000 + 50_000);
  });
});

describe("lengths", () => {
  test("YouTube-8M's mix lies evenly in 120..300, 210 on average", () => {
    for (const videos of [1, 2, 32, 160]) {
      const counts = frameCounts(videos, "yt8m");
      assert.equal(counts.length, videos);
      assert.ok(counts.every((count) => count >= 120 && count <= 300));
      const mean = counts.reduce((sum, count) => sum + count, 0) / videos;
      assert.ok(Math.abs(mean - 210) <= 0.5, `the mean of ${videos} is ${mean}`);
    }
  });

  test("a number of frames is every video's", () => {
    assert.deepEqual(frameCounts(3, 7), Int32Array.of(7, 7, 7));
  });
});

describe("the peers' RESULT lines", () => {
  test("training and inference", () => {
    const lines = [
      "some warning",
      "RESULT tensorflow 2.21.0            tf            train B=32 T=300 threads=2  25.312 videos/s  step median 1.264s min 1.201s (n=5)  warmup 6.1s  peakRSS 3.31 GB  other-cpu 1%  vals ['2747', '2688', '2630']",
      "RESULT torch 2.15.0+cpu             torch-compile train B=32 T=300 threads=2  22.500 videos/s  step median 1.422s min 1.401s (n=5)  warmup 61.0s  peakRSS 2.27 GB  other-cpu 0%  vals ['2747']",
    ];
    assert.deepEqual(parseResults(lines.join("\n"), "train"), [
      { name: "tf", rate: 25.312, peak_gib: 3.31 },
      { name: "torch-compile", rate: 22.5, peak_gib: 2.27 },
    ]);
    assert.deepEqual(parseResults(lines.join("\n"), "infer"), []);
  });

  test("reading: pipelines count, bare records do not", () => {
    const lines = [
      "RESULT read parse+decode_raw           823 records 200 MB  median of 7: 0.283 s  2908 records/s  706 MB/s  other-cpu 0%",
      "RESULT read padded batch 32            823 records 200 MB  median of 7: 0.326 s  2525 records/s  614 MB/s  other-cpu 0%",
      "RESULT read raw TFRecordDataset only 0.126 s 1585 MB/s",
    ];
    assert.deepEqual(parseResults(lines.join("\n"), "read"), [
      { name: "parse+decode_raw", rate: 706, peak_gib: null },
      { name: "padded batch 32", rate: 614, peak_gib: null },
    ]);
  });

  test("metrics: seconds become videos a second", () => {
    const line = "RESULT numpy metrics 20000 videos x 3862 classes: 1.60 s  (GAP 0.000812 Hit@1 0.00075 PERR 0.000790 MAP 0.000100)";
    assert.deepEqual(parseResults(line, "metrics"), [{ name: "numpy", rate: 12_500, peak_gib: null }]);
  });
});

describe("statistics", () => {
  test("median of an odd and of an even number of values, whatever their order", () => {
    assert.deepEqual(spreadOf([10, 9, 2]), { median: 9, min: 2, max: 10 });
    assert.deepEqual(spreadOf([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4 });
  });

  test("the fastest peer is sought pair by pair", () => {
    const peers = [
      [10, 40],
      [20, 15],
    ];
    assert.deepEqual(ratiosToFastest([30, 60], peers), [1.5, 1.5]);
  });
});

test("the speed of AudioSet's peer is that of whole batches over the seconds of its epochs", () => {
  assert.equal(readPeerPace("300 10\nepoch 0 loss 3.2000 1.5 s\nepoch 1 loss 2.9000 0.5 s\nmAP 0.2 mAUC 0.9 over 5 classes\n"), 256);
});

test("audioset names a missing script or package of the peer before it reads any data", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  const peers = process.env.NEXTVLAD_PEERS;
  t.after(() => {
    rmSync(folder, { recursive: true });
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
