import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { audiosetConfigOf, FULL_SIZE, ROOT } from "../../scripts/bench/checkout.js";
import {
  networkArguments,
  parseMetricsResults,
  parseNetworkResult,
  parseReadResults,
  prepareNetworkPeers,
} from "../../scripts/bench/peers.js";
import { chooseThreads } from "../../src/base/threads.js";
import { loadConfig } from "../../src/config/load.js";
import { modelSizes } from "../../src/model/sizes.js";
import { temporaryFolder } from "../helpers/files.js";
import { needsPython, runPython } from "../helpers/python.js";

const { signal } = new AbortController();
const sizes = modelSizes((await loadConfig(audiosetConfigOf(ROOT))).MODEL);
const memory = { batch: 128, frames: 10, steps: 5, precision: "float32", use_gpu: false } as const;
const task = { mode: "train", config: audiosetConfigOf(ROOT), isa: "avx2", ...memory } as const;

describe("the network's peers", () => {
  test("peers.py takes the task's sizes", needsPython, () => {
    const program = "import json, sys; sys.path.insert(0, sys.argv.pop(1)); import peers; print(json.dumps(vars(peers.read_options())))";
    const args = [join(ROOT, "scripts/bench"), "--framework", "tf", ...networkArguments(task, sizes)];
    const threads = chooseThreads(null, assert.fail).count;
    assert.deepEqual(runPython(program, args), {
      ...{ framework: "tf", mode: "train", device: "cpu", batch: 128, frames: 10, steps: 5, threads, tf32: false },
      ...{ rgb: 0, audio: 128, expansion: 2, groups: 8, clusters: 64, hidden: 1024, bottleneck: 128, classes: 527 },
    });
  });

  test("use as many threads as nextvlad", (t) => {
    const before = process.env.OMP_NUM_THREADS;
    t.after(() => {
      if (before === undefined) delete process.env.OMP_NUM_THREADS;
      else process.env.OMP_NUM_THREADS = before;
    });
    process.env.OMP_NUM_THREADS = "3";
    const args = networkArguments(task, sizes);
    assert.equal(args[args.indexOf("--threads") + 1], "3");
  });

  test("pad the mix of lengths to the longest, and use tf32 on the GPU", () => {
    const args = networkArguments({ ...task, frames: "yt8m", precision: "tf32", use_gpu: true }, sizes);
    assert.equal(args[args.indexOf("--frames") + 1], "300");
    assert.equal(args[args.indexOf("--device") + 1], "gpu");
    assert.equal(args.at(-1), "--tf32");
  });

  test("run in the interpreter that has their package, held to the task's level", async (t) => {
    const folder = temporaryFolder(t);
    const script = (name: string, answer: string): string => {
      const file = join(folder, name);
      const body = `printf 'a warning\\n{"name": "%s", "rate": 2.5, "peak_gib": 1.5, "seconds": [4]}\\n' "$3 $ATEN_CPU_CAPABILITY"`;
      writeFileSync(file, `#!/bin/sh\nif [ "$1" = -c ]; then echo ${answer}; else ${body}; fi\n`, { mode: 0o755 });
      return file;
    };
    const interpreters = [script("without", "False"), script("with", "True")];
    const [run, ...rest] = await prepareNetworkPeers(task, sizes, ["torch"], { interpreters, signal });
    assert.deepEqual(rest, []);
    assert.deepEqual(await run?.(), [{ name: "torch avx2", rate: 2.5, peak_gib: 1.5 }]);
  });

  test("exist for NeXtVLAD only", async () => {
    const python = { interpreters: ["python3"], signal };
    await assert.rejects(prepareNetworkPeers(task, { ...sizes, model: "NETVLAD" }, ["torch"], python), {
      code: "BAD_USAGE",
      message: /^MODEL\.name: /,
    });
  });

  test("must print a result", () => {
    assert.throws(() => parseNetworkResult("a warning\n"), { code: "BAD_FORMAT", message: /found a warning/ });
  });
});

describe("the peers' RESULT lines", () => {
  test("reading: pipelines count, bare records do not", () => {
    const lines = [
      "RESULT read parse+decode_raw           823 records 200 MB  median of 7: 0.283 s  2908 records/s  706 MB/s  other-cpu 0%",
      "RESULT read padded batch 32            823 records 200 MB  median of 7: 0.326 s  2525 records/s  614 MB/s  other-cpu 0%",
      "RESULT read raw TFRecordDataset only 0.126 s 1585 MB/s",
    ];
    assert.deepEqual(parseReadResults(lines.join("\n")), [
      { name: "parse+decode_raw", rate: 706, peak_gib: null },
      { name: "padded batch 32", rate: 614, peak_gib: null },
    ]);
  });

  test("metrics: seconds become videos a second", () => {
    const line = "RESULT numpy metrics 20000 videos x 3862 classes: 1.60 s  (GAP 0.000812 Hit@1 0.00075 PERR 0.000790 MAP 0.000100)";
    assert.deepEqual(parseMetricsResults(line), [{ name: "numpy", rate: 12_500, peak_gib: null }]);
  });
});

test("the published sizes are those of configs/nextvlad.yaml", async () => {
  const args = networkArguments(task, modelSizes((await loadConfig(FULL_SIZE)).MODEL));
  assert.equal(
    args.slice(args.indexOf("--rgb")).join(" "),
    "--rgb 1024 --audio 128 --expansion 2 --groups 8 --clusters 128 --hidden 2048 --bottleneck 256 --classes 3862",
  );
});
