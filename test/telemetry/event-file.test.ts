import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { scalarValue } from "../../src/formats/protobuf/event.js";
import { EventFile } from "../../src/telemetry/event-file.js";
import { eventFiles, readEvents } from "../helpers/events.js";
import { fillDisk, temporaryFolder } from "../helpers/files.js";
import { needsPython } from "../helpers/python.js";
import { captureTelemetry } from "../helpers/training.js";

const configYaml = "TRAIN:\n  epoch: 6\n";

test(
  "the first event creates a file for TensorBoard, with the version, the start of the process, and the config",
  needsPython,
  async (t) => {
    const directory = temporaryFolder(t);
    const { log } = (await captureTelemetry()).telemetry;
    const before = Date.now() / 1000;
    const files = [7, 9].map((firstStep) => new EventFile({ directory, firstStep, configYaml, log }));
    assert.deepEqual(eventFiles(directory), []);
    for (const file of files) file.write(12, [scalarValue("train/loss", 0.5), scalarValue("train/gap", 1)]);
    const [first = "", second = ""] = eventFiles(directory);
    const [, seconds] = /^events\.out\.tfevents\.(\d{10})\.[\w.-]+\.\d+$/.exec(basename(first)) ?? [];
    assert.ok(Math.abs(Number(seconds) - before) <= 1, first);
    assert.notEqual(second, "");
    // Each event is on the disk before the file is closed.
    const events = readEvents(directory);
    assert.deepEqual(
      events.map(({ seconds: _, ...event }) => event),
      [7, 9].flatMap((firstStep) => [
        { step: 0, version: "brain.Event:2", scalars: {}, histograms: {}, texts: {} },
        { step: firstStep, session: 1, scalars: {}, histograms: {}, texts: {} },
        { step: firstStep, scalars: {}, histograms: {}, texts: { config: "    TRAIN:\n      epoch: 6\n" } },
        { step: 12, scalars: { "train/loss": 0.5, "train/gap": 1 }, histograms: {}, texts: {} },
      ]),
    );
    for (const { seconds } of events) assert.ok(seconds >= before && seconds <= Date.now() / 1000);
    for (const file of files) {
      file.close();
      file.write(13, [scalarValue("train/loss", 0.25)]);
    }
    assert.deepEqual(readEvents(directory), events);
  },
);

test("a file sorts after those of earlier runs, also with a clock that was set back and another number of a process", async (t) => {
  const directory = temporaryFolder(t);
  const { log } = (await captureTelemetry()).telemetry;
  const future = Math.floor(Date.now() / 1000) + 3600;
  const earlier = `events.out.tfevents.${future}.host.9.0`;
  writeFileSync(join(directory, earlier), "");
  for (const step of [1, 2]) {
    const file = new EventFile({ directory, firstStep: step, configYaml, log });
    file.write(step, [scalarValue("train/loss", 0.5)]);
    file.close();
  }
  const names = readdirSync(directory).sort();
  assert.deepEqual(
    names.map((name) => /^events\.out\.tfevents\.(\d+)/.exec(name)?.[1]),
    [future, future + 1, future + 2].map(String),
  );
});

test("a full disk or a missing directory ends the events with one warning, not the run", { skip: !existsSync("/dev/full") }, async (t) => {
  const directory = temporaryFolder(t);
  const { telemetry, log } = await captureTelemetry();
  const write = (file: EventFile): void => file.write(1, [scalarValue("train/loss", 0.5)]);
  const full = new EventFile({ directory, firstStep: 0, configYaml, log: telemetry.log });
  write(full);
  const [path = ""] = eventFiles(directory);
  truncateSync(path);
  fillDisk(path);
  write(full);
  write(full);
  const missing = join(directory, "missing");
  mkdirSync(missing);
  const without = new EventFile({ directory: missing, firstStep: 0, configYaml, log: telemetry.log });
  rmSync(missing, { recursive: true });
  write(without);
  write(without);
  const warnings = [...log().matchAll(/WARN: (.*): \S+(?:tfevents\S+|\/missing): (.*)$/gm)].map(([, what, why]) => [what, why]);
  assert.deepEqual(warnings, [
    ["the events for TensorBoard end here", "cannot write: no space left on the device. Free disk space, or use another directory."],
    [
      "the events for TensorBoard end here",
      "cannot write: the directory does not exist. Use another directory, or make this one writable.",
    ],
  ]);
  full.close();
});
