import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { EventFile } from "../../src/telemetry/event-file.js";
import { Scalars } from "../../src/telemetry/scalars.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { readEvents } from "../helpers/events.js";
import { temporaryFolder } from "../helpers/files.js";
import { needsPython } from "../helpers/python.js";
import { readLog } from "../helpers/runs.js";
import { Capture } from "../helpers/terminal.js";

test("a scalar is in the log, in the events, and there for the progress bar", needsPython, async (t) => {
  const directory = temporaryFolder(t);
  const stderr = new Capture(false);
  const telemetry = await createTelemetry({ logFile: join(directory, "train.log.jsonl"), stderr: stderr.stream });
  const events = new EventFile({ directory, firstStep: 0, configYaml: "", log: telemetry.log });
  const scalars = new Scalars(telemetry.log, events);
  assert.equal(scalars.latest("train/loss"), undefined);
  scalars.scalar(3, "train/loss", 0.5);
  scalars.scalar(3, "gradient_norm/w", 2);
  assert.equal(scalars.latest("train/loss"), 0.5);
  scalars.flush("train", { epoch: 1, step: 3 }, "line 3");
  scalars.scalar(3, "validation/loss", 0.75);
  scalars.scalar(4, "validation/gap", Number.NaN);
  scalars.flush("validation", {}, "line 4");
  scalars.histogram(5, "parameters/w", Float32Array.of(1, 3));
  scalars.histogram(5, "parameters/nan", Float32Array.of(Number.NaN));
  scalars.flush("train", {}, "nothing more");
  scalars.close();
  await telemetry.close();

  const entries = readLog(directory).map(({ level, time, pid, ...entry }) => entry);
  assert.deepEqual(entries, [
    { epoch: 1, step: 3, loss: 0.5, "gradient_norm/w": 2, msg: "line 3" },
    { loss: 0.75, gap: null, msg: "line 4" },
    { msg: "nothing more" },
  ]);
  assert.match(stderr.text, /INFO: line 3\n.*INFO: line 4\n/);
  assert.equal(scalars.latest("train/loss"), 0.5);
  const [, , , first, second, third, histogram, ...more] = readEvents(directory);
  assert.deepEqual([first?.step, first?.scalars], [3, { "train/loss": 0.5, "gradient_norm/w": 2 }]);
  assert.deepEqual([second?.step, second?.scalars, third?.step], [3, { "validation/loss": 0.75 }, 4]);
  assert.deepEqual([histogram?.step, histogram?.histograms["parameters/w"]?.numbers], [5, [1, 3, 2, 4, 10]]);
  assert.deepEqual(more, []);
});
