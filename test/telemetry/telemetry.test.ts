import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, existsSync, openSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { fillDisk, temporaryFolder } from "../helpers/files.js";
import { Capture } from "../helpers/terminal.js";

function entries(file: string): Record<string, unknown>[] {
  return readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("the file gets JSON with the fields, stderr a readable line, both immediately", async (context) => {
  const logFile = join(temporaryFolder(context), "train.log.jsonl");
  const stderr = new Capture(false);
  const telemetry = await createTelemetry({ logFile, stderr: stderr.stream });
  telemetry.log.info({ step: 10, loss: 4.5 }, "[TRAIN] Epoch 0");
  const [entry] = entries(logFile);
  assert.deepEqual([entry?.step, entry?.loss, entry?.msg, entry?.level], [10, 4.5, "[TRAIN] Epoch 0", 30]);
  assert.equal(entry?.time, new Date(String(entry?.time)).toISOString());
  assert.match(stderr.text, /^\[\d\d:\d\d:\d\d\] INFO: \[TRAIN\] Epoch 0\n$/);
  await telemetry.close();
});

test("quiet shows only warnings and errors, and no progress; the file has everything", async (context) => {
  const logFile = join(temporaryFolder(context), "train.log.jsonl");
  const stderr = new Capture(true);
  const telemetry = await createTelemetry({ logFile, stderr: stderr.stream, quiet: true });
  telemetry.progress.start("train");
  telemetry.log.info("step");
  telemetry.progress.update({ fraction: 0.5, videosPerSecond: 1, secondsLeft: 1 });
  telemetry.log.warn("careful");
  await telemetry.close();
  assert.match(stderr.text, /^[^\n]*careful[^\n]*\n$/);
  assert.deepEqual(
    entries(logFile).map(({ msg }) => msg),
    ["step", "careful"],
  );
});

test("an existing log is appended to", async (context) => {
  const logFile = join(temporaryFolder(context), "train.log.jsonl");
  for (const message of ["first", "second"]) {
    const telemetry = await createTelemetry({ logFile, stderr: new Capture(false).stream });
    telemetry.log.warn(message);
    await telemetry.close();
  }
  assert.deepEqual(
    entries(logFile).map((entry) => entry.msg),
    ["first", "second"],
  );
});

test("a failure is logged with its stack to the file, not to stderr", async (context) => {
  const logFile = join(temporaryFolder(context), "train.log.jsonl");
  const stderr = new Capture(false);
  for (const failure of [
    new TypeError("unforeseen"),
    new NextvladError("BAD_VIDEO", "it has no frames", { file: "a.tfrecord", record: 3 }),
  ]) {
    const telemetry = await createTelemetry({ logFile, stderr: stderr.stream });
    await telemetry.close(failure);
  }
  const [unforeseen, foreseen] = entries(logFile);
  assert.equal(unforeseen?.level, 60);
  assert.match(JSON.stringify(unforeseen?.err), /"stack":"TypeError: unforeseen\\n {4}at .*telemetry\.test/);
  assert.deepEqual([foreseen?.code, foreseen?.details], ["BAD_VIDEO", { file: "a.tfrecord", record: 3 }]);
  assert.equal(stderr.text, "");
});

test("a log that cannot be opened is an error with its path", async (context) => {
  const logFile = join(temporaryFolder(context), "no-folder", "train.log.jsonl");
  await assert.rejects(createTelemetry({ logFile }), (error: unknown) => {
    assert.ok(error instanceof NextvladError && error.code === "FILE_UNWRITABLE");
    return error.message.startsWith(logFile);
  });
});

test("a log that is a link or a pipe, with or without a reader, is an error, and nothing is written through it", async (context) => {
  const folder = temporaryFolder(context);
  const [target, link, pipe] = [join(folder, "target"), join(folder, "link"), join(folder, "pipe")];
  writeFileSync(target, "kept");
  symlinkSync(target, link);
  execFileSync("mkfifo", [pipe]);
  const refused = (logFile: string, found: string) =>
    assert.rejects(createTelemetry({ logFile }), {
      code: "FILE_UNWRITABLE",
      message: `${logFile}: cannot write the log: not a regular file (found ${found}). Remove it, or use another directory.`,
    });
  await refused(link, "a symbolic link");
  await refused(pipe, "a pipe");
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  await refused(pipe, "a pipe");
  closeSync(reader);
  assert.equal(readFileSync(target, "utf8"), "kept");
  symlinkSync(join(folder, "new"), join(folder, "dangling"));
  await refused(join(folder, "dangling"), "a symbolic link");
  assert.equal(existsSync(join(folder, "new")), false);
});

test("a full disk ends the log with a warning, not the run", { skip: !existsSync("/dev/full") }, async (context) => {
  const stderr = new Capture(false);
  const logFile = join(temporaryFolder(context), "train.log.jsonl");
  const telemetry = await createTelemetry({ logFile, stderr: stderr.stream });
  fillDisk(logFile);
  telemetry.log.info("one");
  telemetry.log.info("two");
  await telemetry.close();
  assert.equal(stderr.text.match(/the log file ends here: \S+train\.log\.jsonl: cannot write: no space left/g)?.length, 1);
  assert.match(stderr.text, /INFO: two\n$/);
});

test("colors are used only on a terminal that supports them, without NO_COLOR", async () => {
  const { NO_COLOR, TERM } = process.env;
  const written = async (isTTY: boolean, noColor: string, term = "xterm"): Promise<string> => {
    process.env.NO_COLOR = noColor;
    process.env.TERM = term;
    const stderr = new Capture(isTTY);
    const telemetry = await createTelemetry({ logFile: null, stderr: stderr.stream });
    telemetry.log.info("line");
    await telemetry.close();
    return stderr.text;
  };
  try {
    assert.deepEqual(
      [await written(true, ""), await written(true, "1"), await written(false, ""), await written(true, "", "dumb")].map((text) =>
        text.includes("\u001b"),
      ),
      [true, false, false, false],
    );
  } finally {
    if (NO_COLOR === undefined) delete process.env.NO_COLOR;
    else process.env.NO_COLOR = NO_COLOR;
    if (TERM === undefined) delete process.env.TERM;
    else process.env.TERM = TERM;
  }
});
