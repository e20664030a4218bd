import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { isSet } from "../../src/base/interval.js";
import { lockDirectory } from "../../src/base/lock.js";
import { chooseThreads } from "../../src/base/threads.js";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { loadConfig, type Overrides } from "../../src/config/load.js";
import { resolveShards } from "../../src/data/file-list.js";
import { SkippedRecordReport } from "../../src/passes/skipped-records.js";
import { createTelemetry, type Telemetry } from "../../src/telemetry/telemetry.js";
import type { TrainOptions, TrainOutcome } from "../../src/training/options.js";
import { train } from "../../src/training/train.js";
import { examinedEnds } from "./shards.js";
import { Capture } from "./terminal.js";

/** Creates telemetry that captures its lines, and a function that returns them. */
export async function captureTelemetry(): Promise<{ readonly telemetry: Telemetry; readonly log: () => string }> {
  const terminal = new Capture(false);
  return { telemetry: await createTelemetry({ logFile: null, stderr: terminal.stream }), log: () => terminal.text };
}

/** What a test changes in a training run: settings (`TRAIN.epoch=3`), and options. `resume` and `pretrain` are paths. */
export interface TrainingChanges extends Partial<Omit<TrainOptions, "resume" | "pretrain">> {
  readonly settings?: Overrides["settings"];
  readonly resume?: string | null;
  readonly pretrain?: string | null;
}

/** Trains in this process, as `nextvlad train` does with these settings; returns the outcome and the log. By default, does not validate. */
export async function trainInProcess(
  configPath: string,
  saveDir: string,
  changes: TrainingChanges = {},
): Promise<{ readonly outcome: TrainOutcome; readonly log: string }> {
  const { settings = [], resume = null, pretrain = null, ...options } = changes;
  const config = await loadConfig(configPath, { settings });
  mkdirSync(saveDir, { recursive: true });
  const lock = await lockDirectory(saveDir);
  const captured = await captureTelemetry();
  const telemetry = options.telemetry ?? captured.telemetry;
  const start = {
    resume: resume === null ? null : await openWeights(resume, { optimizer: true }),
    pretrain: pretrain === null ? null : await openWeights(pretrain, { optimizer: false }),
  };
  try {
    const cwd = process.cwd();
    const validates = isSet(options.validInterval ?? { epochs: 0 });
    const outcome = await train(config, {
      shards: await Promise.all((await resolveShards(config.TRAIN.filelist, { cwd })).map(({ path }) => examinedEnds(path))),
      validShards: validates ? await resolveShards(config.VALID.filelist, { cwd }) : [],
      telemetry,
      threads: chooseThreads(null, assert.fail),
      skipped: new SkippedRecordReport(saveDir, "train", telemetry.log),
      saveDir,
      ...start,
      resumeStep: null,
      skippedSnapshots: [],
      overwrite: false,
      limitVideos: null,
      logIntervalSteps: 1,
      histogramIntervalSteps: 0,
      validInterval: { epochs: 0 },
      earlyStop: null,
      fullRanking: false,
      saveInterval: null,
      keep: null,
      lockText: lock.text,
      cluster: null,
      version: "0.0.0",
      signal: new AbortController().signal,
      onSaveRequest: () => undefined,
      resumeCommand: (snapshot, added = []) => `nextvlad train --resume ${[snapshot, ...added].join(" ")}`,
      ...options,
    });
    return { outcome, log: captured.log() };
  } finally {
    await start.resume?.close();
    await start.pretrain?.close();
    await lock.release();
  }
}
