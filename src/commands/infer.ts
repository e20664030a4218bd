import { findConfig, logConfig, readingOverrides } from "./configuration.js";
import type { InferFlags } from "./options.js";
import { runIn } from "./run.js";
import { describeWeights, openNamedWeights } from "./weights.js";

/** `nextvlad infer`: prints how many videos it saw and where their classes are; returns the exit code. */
export async function runInfer(flags: InferFlags): Promise<number> {
  const weights = await openNamedWeights(flags.weights);
  const config = await findConfig(flags, readingOverrides("INFER", flags), weights);
  const { outcome, exitCode } = await runIn(flags.saveDir, "infer.log.jsonl", async ({ telemetry, signal }) => {
    for (const line of describeWeights(weights, flags, config)) telemetry.log.info(line);
    logConfig(telemetry.log, config, ["MODEL", "INFER"]);
    const { infer } = await import("../inference/infer.js");
    return infer(config, {
      weights,
      filelist: config.INFER.filelist,
      batchSize: config.INFER.batch_size,
      topk: Math.min(flags.inferTopk, config.MODEL.num_classes),
      saveDir: flags.saveDir,
      logIntervalSteps: flags.logInterval,
      signal,
      telemetry,
    });
  });
  if (outcome.stopped) process.stdout.write(`[INFER] infer stopped after ${outcome.videos} videos: no result\n`);
  else process.stdout.write(`[INFER] infer finished. \tvideos: ${outcome.videos}\nresults: ${outcome.resultFile}\n`);
  return exitCode;
}
