import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startProgram, waitForExit } from "../base/child-process.js";
import { NextvladError } from "../base/errors.js";
import { isSet } from "../base/interval.js";
import { formatSeconds } from "../base/waiting.js";
import { epochSnapshot } from "../checkpoints/snapshot-layout.js";
import { formatConfig } from "../config/keys.js";
import { findConfig } from "./configuration.js";
import { configOverrides, type TrainFlags } from "./flags.js";
import { printLines, printResult, printToStderr } from "./output.js";
import { findCluster } from "./ranks.js";
import { withoutFlags } from "./resume-command.js";

/** Number of steps: the second one computes with updated weights. */
const STEPS = 2;
/** Flags of the run that a trial does without, or sets itself. */
const DROPPED = [
  ...["--smoke", "--config", "--save-dir", "--overwrite", "--epoch", "--limit-videos", "--valid-interval", "--early-stop", "--report"],
  ...["--quiet", "--verbose", "--json"],
  ...["--keep", "--save-interval", "--log-interval", "--histogram-interval"],
];
const FORWARDED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * `nextvlad train --smoke`: runs train, eval and infer with the given flags on a few videos in a temporary directory, prints how long each took, and removes the
 * directory; returns the exit code of the first that fails, else 0. Throws BAD_USAGE on a cluster, and what reading the config throws.
 */
export async function runSmoke(flags: TrainFlags): Promise<number> {
  if (findCluster(flags) !== null) {
    throw new NextvladError("BAD_USAGE", "a trial runs on one host only", {
      key: "--smoke",
      remedy: "start it without TF_CONFIG and SLURM_*",
    });
  }
  const config = await findConfig(flags, configOverrides("train", flags), null);
  const { MODEL, TRAIN, VALID } = config;
  const validates = isSet(flags.validInterval);
  const directory = await mkdtemp(join(tmpdir(), "nextvlad-smoke-"));
  const at = (name: string): string => join(directory, name);
  const limit = ["--limit-videos", String(STEPS * TRAIN.batch_size)];
  const list = [validates ? VALID.filelist : TRAIN.filelist].flat();
  const given = [
    ...(flags.useGpu === undefined ? [] : ["--use-gpu", String(flags.useGpu)]),
    ...(flags.onCorrupt === undefined ? [] : ["--on-corrupt", String(flags.onCorrupt)]),
    ...(flags.threads === undefined ? [] : ["--threads", String(flags.threads)]),
  ];
  const reading = ["--weights", epochSnapshot(at("train"), MODEL.name, 0), "--filelist", ...list, ...given];
  const valid = ["--valid-interval", validates ? "1" : "0"];
  // The config may come from a pipe, which only one process can read.
  const configFile = at("config.yaml");
  const sets = ["TRAIN.epoch=1", `TRAIN.max_iter=${STEPS}`].flatMap((set) => ["--set", set]);
  const parts: readonly (readonly string[])[] = [
    ["train", "--config", configFile, ...withoutFlags(process.argv.slice(3), DROPPED), ...valid, ...sets],
    ["eval", ...reading],
    ["infer", ...reading],
  ];
  const seconds: Record<string, number> = {};
  try {
    await writeFile(configFile, formatConfig(config));
    for (const part of parts) {
      const [command = ""] = part;
      const since = performance.now();
      const exitCode = await runPart([...part, ...limit, "--save-dir", at(command), "--quiet"]);
      const ms = performance.now() - since;
      const time = formatSeconds(ms);
      if (exitCode !== 0) {
        printToStderr(`[SMOKE] ${command} ended after ${time} with exit code ${exitCode}`);
        return exitCode;
      }
      seconds[command] = ms / 1000;
      if (!flags.json) await printLines(`[SMOKE] ${command} works: ${time}`);
    }
    const videos = `at most ${STEPS * TRAIN.batch_size} videos each`;
    const summary = `[SMOKE] the config, the data and the device work: ${videos}, in batches of ${TRAIN.batch_size} for training`;
    await printResult(flags, { seconds, max_videos: STEPS * TRAIN.batch_size, batch_size: TRAIN.batch_size }, [summary]);
    return 0;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Runs a command in a process of its own, whose warnings and errors are on standard error; returns its exit code. Signals are forwarded to it. */
async function runPart(args: readonly string[]): Promise<number> {
  const child = startProgram(args, { stdio: ["inherit", "ignore", "inherit"] });
  const forward = (name: NodeJS.Signals): void => void child.kill(name);
  for (const name of FORWARDED) process.on(name, forward);
  try {
    return (await waitForExit(child)).code;
  } finally {
    for (const name of FORWARDED) process.off(name, forward);
  }
}
