import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { pino } from "pino";
import { type ErrorCode, NextvladError } from "../../src/base/errors.js";
import { type BatchWriter, writeResumably } from "../../src/passes/resumable-results.js";
import { temporaryFolder } from "../helpers/files.js";
import { examined } from "../helpers/shards.js";

test("a failed run keeps its partial results and logs the resume command, unless all labels are missing", async (t) => {
  const folder = temporaryFolder(t);
  const run = async (code: ErrorCode, throwsAtEnd: boolean) => {
    const out = new PassThrough();
    const stem = join(folder, `${code}${throwsAtEnd}`);
    const options = {
      ...{
        stem,
        settings: {},
        computedBy: "test",
        target: null,
        tally: null,
        shards: { list: [], contents: { modified_ms: [], ends_crc32c: [] } },
        log: pino({}, out),
      },
      ...{ resume: false, saveInterval: { steps: 1 }, resumeCommand: "nextvlad eval --resume", onSaveRequest: () => {} },
    };
    const fail = async (): Promise<void> => {
      throw new NextvladError(code, "it fails");
    };
    const work = async (writer: BatchWriter) => {
      await writer.endBatch(1, 0.5);
      if (!throwsAtEnd) await fail();
      return { stopped: false };
    };
    await assert.rejects(writeResumably(options, work, fail), { code });
    const log = String(out.read() ?? "");
    return [existsSync(`${stem}.partial`), log.includes("resume with: nextvlad eval --resume")];
  };
  assert.deepEqual(await run("BAD_LABELS", true), [false, false]);
  assert.deepEqual(await run("FILE_UNWRITABLE", true), [true, true]);
  assert.deepEqual(await run("BAD_LABELS", false), [true, true]);
});

test("resuming with a changed shard is an error, with a copy of the same content it is not", async (t) => {
  const stem = join(temporaryFolder(t), "result");
  const run = (modified: number, ends: string, resume: boolean) =>
    writeResumably(
      {
        ...{ stem, settings: {}, computedBy: "test", target: null, tally: null, log: pino({ enabled: false }) },
        shards: { list: ["a.tfrecord"].map(examined), contents: { modified_ms: [modified], ends_crc32c: [ends] } },
        ...{ resume, saveInterval: { steps: 1 }, resumeCommand: "nextvlad eval --resume", onSaveRequest: () => {} },
      },
      async (writer) => {
        await writer.endBatch(1, 0.5);
        return { stopped: true };
      },
    );
  await run(1, "00000001", false);
  await assert.rejects(run(2, "00000002", true), { code: "BAD_CONFIG", message: /a\.tfrecord.*the content of this shard has changed/ });
  assert.equal((await run(2, "00000001", true)).videos, 2);
});

test("after an error about a corrupt shard, the run resumes with an intact copy of it, and with no other change", async (t) => {
  const stem = join(temporaryFolder(t), "result");
  const run = (ends: readonly [string, string], modified: number, resume: boolean, failure: NextvladError | null) =>
    writeResumably(
      {
        ...{ stem, settings: {}, computedBy: "test", target: null, tally: null, log: pino({ enabled: false }) },
        shards: {
          list: ["a.tfrecord", "b.tfrecord"].map(examined),
          contents: { modified_ms: [modified, modified], ends_crc32c: [...ends] },
        },
        ...{ resume, saveInterval: { steps: 1 }, resumeCommand: "nextvlad infer --resume", onSaveRequest: () => {} },
      },
      async (writer) => {
        await writer.endBatch(1, 0.5);
        if (failure !== null) throw failure;
        return { stopped: true };
      },
    );
  const failure = new NextvladError("CORRUPT_RECORD", "a wrong checksum", { file: "/data/b.tfrecord", damaged: "record" });
  await assert.rejects(run(["00000001", "00000002"], 1, false, failure), { code: "CORRUPT_RECORD" });
  await assert.rejects(run(["00000003", "00000002"], 2, true, null), { code: "BAD_CONFIG", message: /a\.tfrecord.*has changed/ });
  assert.equal((await run(["00000001", "00000004"], 2, true, null)).videos, 2);
  // The state now describes the good copy.
  await assert.rejects(run(["00000001", "00000005"], 3, true, null), { code: "BAD_CONFIG", message: /b\.tfrecord.*has changed/ });
});
