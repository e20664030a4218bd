import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { pino } from "pino";
import { type ErrorCode, NextvladError } from "../../src/base/errors.js";
import { ALONE } from "../../src/distributed/world.js";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { type BatchWriter, type ResumableOptions, writeResumably } from "../../src/passes/resumable-results.js";
import type { Rounding } from "../../src/runtime/rounding.js";
import { temporaryFolder } from "../helpers/files.js";

const COMPUTED_BY = { software: "TensorFlow 2.21.0 on the CPU", level: "avx2", threads: 2 };

function optionsOf(stem: string, more: Partial<ResumableOptions> = {}): ResumableOptions {
  return {
    ...{ stem, settings: {}, computedBy: COMPUTED_BY, target: null, metrics: null, mistakes: null, log: pino({ enabled: false }) },
    ...{
      world: ALONE,
      batchSize: 1,
      shards: [],
      resume: false,
      saveInterval: { steps: 1 },
      resumeCommand: "nextvlad eval --resume",
      onSaveRequest: () => {},
    },
    ...more,
  };
}

/** Does a batch of one video, then stops. */
async function stopAfterBatch(writer: BatchWriter): Promise<{ readonly stopped: boolean }> {
  await writer.endBatch(1, 0.5);
  return { stopped: true };
}

test("a failed run keeps its partial results and logs the resume command, unless all labels are missing", async (t) => {
  const folder = temporaryFolder(t);
  const run = async (code: ErrorCode, throwsAtEnd: boolean) => {
    const out = new PassThrough();
    const stem = join(folder, `${code}${throwsAtEnd}`);
    const fail = async (): Promise<void> => {
      throw new NextvladError(code, "it fails");
    };
    const work = async (writer: BatchWriter) => {
      await writer.endBatch(1, 0.5);
      if (!throwsAtEnd) await fail();
      return { stopped: false };
    };
    await assert.rejects(writeResumably(optionsOf(stem, { log: pino({}, out) }), work, fail), { code });
    const log = String(out.read() ?? "");
    return [existsSync(`${stem}.partial`), log.includes("resume with: nextvlad eval --resume")];
  };
  assert.deepEqual(await run("BAD_LABELS", true), [false, false]);
  assert.deepEqual(await run("FILE_UNWRITABLE", true), [true, true]);
  assert.deepEqual(await run("BAD_LABELS", false), [true, true]);
});

test("resuming with a changed shard is an error, with a copy of the same content it is not", async (t) => {
  const stem = join(temporaryFolder(t), "result");
  const run = (modifiedMs: number, endsCrc32c: string, resume: boolean) => {
    const shards = [{ path: "a.tfrecord", bytes: 1, modifiedMs, endsCrc32c }];
    return writeResumably(optionsOf(stem, { shards, resume }), stopAfterBatch);
  };
  await run(1, "00000001", false);
  await assert.rejects(run(2, "00000002", true), { code: "BAD_CONFIG", message: /a\.tfrecord.*the content of this shard has changed/ });
  assert.equal((await run(2, "00000001", true)).videos, 2);
});

test("after an error about a corrupt shard, the run resumes with an intact copy of it, and with no other change", async (t) => {
  const stem = join(temporaryFolder(t), "result");
  const run = (ends: readonly [string, string], modifiedMs: number, resume: boolean, failure: NextvladError | null) => {
    const shards = ends.map((endsCrc32c, i) => ({ path: ["a.tfrecord", "b.tfrecord"][i] as string, bytes: 1, modifiedMs, endsCrc32c }));
    const metrics = new MetricsAccumulator(2);
    return writeResumably(optionsOf(stem, { shards, resume, metrics }), async (writer) => {
      metrics.sums.videos[0] = writer.done.videos + 1;
      await writer.endBatch(1, 0.5);
      // Of the batch that fails, which is not saved.
      metrics.sums.videos[0] = 100;
      if (failure !== null) throw failure;
      return { stopped: true };
    });
  };
  const failure = new NextvladError("CORRUPT_RECORD", "a wrong checksum", { file: "/data/b.tfrecord", damaged: "record" });
  await assert.rejects(run(["00000001", "00000002"], 1, false, failure), { code: "CORRUPT_RECORD" });
  const saved = readFileSync(join(`${stem}.partial`, "state.json"), "utf8");
  assert.equal(JSON.parse(saved).sums.videos, Buffer.from(Float64Array.of(1).buffer).toString("base64"));
  await assert.rejects(run(["00000003", "00000002"], 2, true, null), { code: "BAD_CONFIG", message: /a\.tfrecord.*has changed/ });
  assert.equal((await run(["00000001", "00000004"], 2, true, null)).videos, 2);
  // The state now describes the good copy.
  await assert.rejects(run(["00000001", "00000005"], 3, true, null), { code: "BAD_CONFIG", message: /b\.tfrecord.*has changed/ });
});

test("keeps a directory with an unreadable state, removes one without a state", async (t) => {
  const stem = join(temporaryFolder(t), "out");
  const path = `${stem}.partial`;
  mkdirSync(join(path, "state.json"), { recursive: true });
  writeFileSync(join(path, "out.pkl"), "hours of results");
  const resumed = optionsOf(stem, { resume: true });
  await assert.rejects(writeResumably(resumed, stopAfterBatch), {
    code: "FILE_UNREADABLE",
    message: /state\.json: cannot read: it is a directory/,
  });
  assert.deepEqual(readdirSync(path).sort(), ["out.pkl", "state.json"]);
  rmSync(join(path, "state.json"), { recursive: true });
  const stopped = await writeResumably(resumed, async () => ({ stopped: true }));
  assert.equal(stopped.partialDirectory, null);
  assert.equal(existsSync(path), false);
});

test("a corrupt state is an error when resuming, and removed when starting from the beginning", async (t) => {
  const stem = join(temporaryFolder(t), "out");
  const state = join(`${stem}.partial`, "state.json");
  mkdirSync(`${stem}.partial`);
  writeFileSync(state, "{");
  await assert.rejects(writeResumably(optionsOf(stem, { resume: true }), stopAfterBatch), { code: "BAD_RESULTS" });
  assert.equal(readFileSync(state, "utf8"), "{");
  const { videos, partialDirectory } = await writeResumably(optionsOf(stem), stopAfterBatch);
  assert.deepEqual([videos, partialDirectory], [1, `${stem}.partial`]);
});

test("a directory with other files is an error, and is unchanged", async (t) => {
  const stem = join(temporaryFolder(t), "out");
  const path = `${stem}.partial`;
  mkdirSync(path);
  for (const name of ["thesis.docx", "tally.bin", "a.csv"]) writeFileSync(join(path, name), "mine");
  await assert.rejects(writeResumably(optionsOf(stem), stopAfterBatch), {
    code: "FILE_UNWRITABLE",
    message: /out\.partial: the directory of partial results contains another file, thesis\.docx\. Move it\.$/,
  });
  assert.deepEqual(readdirSync(path).sort(), ["a.csv", "tally.bin", "thesis.docx"]);
  const other = join(temporaryFolder(t), "out");
  symlinkSync(path, `${other}.partial`);
  rmSync(join(path, "thesis.docx"));
  await assert.rejects(writeResumably(optionsOf(other), stopAfterBatch), {
    code: "FILE_UNWRITABLE",
    message: /is a symbolic link.*Remove the link\.$/,
  });
  assert.deepEqual(readdirSync(path).sort(), ["a.csv", "tally.bin"]);
});

test("complete results, some of which were moved before the run was killed, are moved when resumed; those of the metrics are required", async (t) => {
  const stem = join(temporaryFolder(t), "out");
  const path = `${stem}.partial`;
  const blocked = `${stem}.jsonl`;
  const run = async (resume: boolean, work: (writer: BatchWriter, metrics: MetricsAccumulator) => Promise<void>) => {
    const metrics = new MetricsAccumulator(2);
    const target = { path: stem, formats: ["csv", "jsonl"], names: null } as const;
    const outcome = await writeResumably(
      optionsOf(stem, { target, metrics, resume }),
      async (writer) => {
        await work(writer, metrics);
        return { stopped: false };
      },
      async () => {
        if (!resume) mkdirSync(blocked);
      },
    );
    return { ...outcome, metrics: metrics.result() };
  };
  const predictions = Float32Array.of(0.25, 0.5);
  const labels = [Int32Array.of(1)];
  await assert.rejects(
    run(false, async (writer, metrics) => {
      metrics.add(predictions, labels, 1);
      await writer.write({ id: "v", scores: Float32Array.of(0.5), classes: Int32Array.of(1) });
      await writer.endBatch(1, 1);
    }),
    { code: "FILE_UNWRITABLE" },
  );
  assert.deepEqual(readdirSync(path).sort(), ["out.jsonl", "state.json", "tally.bin"]);
  rmSync(blocked, { recursive: true });
  const never = () => Promise.reject(new Error("all videos are done"));
  const tally = readFileSync(join(path, "tally.bin"));
  rmSync(join(path, "tally.bin"));
  await assert.rejects(run(true, never), { code: "BAD_RESULTS", message: /tally\.bin: a file of the partial results is missing/ });
  writeFileSync(join(path, "tally.bin"), tally);
  const { resultFiles, videos, metrics } = await run(true, never);
  assert.deepEqual([resultFiles, videos], [[`${stem}.csv`, blocked], 1]);
  const expected = new MetricsAccumulator(2);
  expected.add(predictions, labels, 1);
  assert.deepEqual(metrics, expected.result());
  assert.equal(readFileSync(`${stem}.csv`, "utf8"), "VideoId,LabelConfidencePairs\nv,1 0.5\n");
  assert.equal(readFileSync(blocked, "utf8"), '{"id":"v","predictions":[{"class":1,"probability":0.5}]}\n');
  assert.equal(existsSync(path), false);
});

test("warns, with the settings that restore them, if the last digits will differ", async (t) => {
  const stem = join(temporaryFolder(t), "result");
  const out = new PassThrough();
  const run = (computedBy: Rounding, resume: boolean) =>
    writeResumably(optionsOf(stem, { computedBy, resume, log: pino({}, out) }), stopAfterBatch);
  await run(COMPUTED_BY, false);
  await run(COMPUTED_BY, true);
  assert.doesNotMatch(String(out.read()), /digits/);
  await run({ ...COMPUTED_BY, threads: 1 }, true);
  const warning =
    "the partial results were computed with TensorFlow 2.21.0 on the CPU (level avx2, 2 threads), and this run uses TensorFlow 2.21.0 on the CPU (level avx2, 1 thread): the last digits will differ; to restore them, use --threads 2";
  assert.ok(String(out.read()).includes(warning));
});
