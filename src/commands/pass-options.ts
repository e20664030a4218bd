import { version } from "../base/package.js";
import { chooseThreads } from "../base/threads.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import type { Cluster } from "../distributed/cluster.js";
import type { EvaluateOptions } from "../inference/evaluate.js";
import type { ResumableOutcome } from "../passes/resumable-results.js";
import type { InferFlags } from "./flags.js";
import type { Preflight } from "./preflight.js";
import { silentTelemetry } from "./ranks.js";
import { resumeCommand } from "./resume-command.js";
import type { Run } from "./run.js";

/** Default interval between saves of partial results: the most work that a killed run loses. */
const SAVE_INTERVAL_MS = 10_000;
const LOG_INTERVAL_MS = 10_000;

/** Returns the options that `eval` and `infer` share: how the pass over the videos is logged, saved, stopped and resumed. */
export async function passOptions(
  command: "eval" | "infer",
  flags: Pick<InferFlags, "saveDir" | "logInterval" | "resume" | "saveInterval" | "threads">,
  cluster: Cluster | null,
  { telemetry, signal, onSaveRequest }: Run,
): Promise<Pick<EvaluateOptions, "threads" | "cluster" | "version" | "logInterval" | "resumable" | "signal" | "telemetry" | "skipped">> {
  const { SkippedRecordReport } = await import("../passes/skipped-records.js");
  // Registered before the pass provides its save function: without a listener, Node opens the inspector's port at SIGUSR1.
  let save = (): void => undefined;
  onSaveRequest(() => save());
  return {
    threads: chooseThreads(flags.threads ?? null, (message) => telemetry.log.warn(message)),
    cluster,
    version: version(),
    logInterval: flags.logInterval === undefined ? { ms: LOG_INTERVAL_MS } : { steps: flags.logInterval },
    resumable: {
      resume: flags.resume ?? false,
      saveInterval: flags.saveInterval ?? { ms: SAVE_INTERVAL_MS },
      resumeCommand: resumeCommand(process.argv.slice(2)),
      onSaveRequest: (saveNow) => {
        save = saveNow;
      },
    },
    signal,
    telemetry,
    skipped: new SkippedRecordReport(flags.saveDir, command, telemetry.log),
  };
}

/** Computes as a rank other than 0: without output, unless it fails, and without files. Returns the exit code. */
export async function followPass(
  section: "TEST" | "INFER",
  config: Config,
  work: {
    readonly weights: WeightSource;
    readonly preflight: Preflight;
    readonly cluster: Cluster;
    readonly flags: Pick<InferFlags, "threads" | "limitVideos">;
  },
): Promise<number> {
  const { weights, preflight, cluster, flags } = work;
  const { follow } = await import("../inference/follow.js");
  const telemetry = await silentTelemetry();
  const [shards = []] = preflight.requireReady(telemetry.log);
  const threads = chooseThreads(flags.threads ?? null, () => undefined);
  await follow(config, {
    section,
    weights,
    shards,
    limitVideos: flags.limitVideos ?? null,
    threads,
    cluster,
    version: version(),
    telemetry,
  });
  return 0;
}

/** Returns for --json whether a pass was stopped, its number of videos, and how to resume it. */
export function stateOf({ stopped, videos, partialDirectory }: ResumableOutcome) {
  const isResumable = stopped && partialDirectory !== null;
  return {
    stopped,
    videos,
    partial_directory: partialDirectory,
    resume_command: isResumable ? resumeCommand(process.argv.slice(2)) : null,
  };
}

/**
 * Returns the last lines of a pass that a signal stopped: its progress, and the command to resume it. `partialDirectory`: the path of the partial
 * results, or null without any.
 */
export function formatStop(title: string, videos: number, partialDirectory: string | null): readonly string[] {
  if (partialDirectory === null) return [`${title} stopped after ${videos} videos: no partial results`];
  return [
    `${title} stopped after ${videos} videos; partial results are in ${partialDirectory}`,
    `resume with: ${resumeCommand(process.argv.slice(2))}`,
  ];
}
