import { chooseThreads } from "../base/threads.js";
import { describeWait } from "../base/waiting.js";
import { buildConfig, loadConfig } from "../config/load.js";
import type { Config } from "../config/schema.js";
import { describeFileList, type FileList, findShards } from "../data/file-list.js";
import { uniqueShards } from "../data/shard.js";
import { videoShape } from "../data/video.js";
import { type VerifyProgress, verifyShards } from "../inspection/verify.js";
import { formatVerification, verifyReport } from "../inspection/verify-report.js";
import { createTelemetry, type Telemetry } from "../telemetry/telemetry.js";
import { configOverrides, type VerifyFlags } from "./flags.js";
import { printResult } from "./output.js";
import { watchSignals } from "./signals.js";

/** How often the progress is logged. */
const LOG_INTERVAL_MS = 30_000;

/** `nextvlad verify`: prints the report; returns the exit code, 1 if there are problems. */
export async function runVerify(list: FileList, flags: VerifyFlags): Promise<number> {
  const { MODEL } = await loadVerifyConfig(flags);
  const { shards: listed, repeated, problem, warnings } = await findShards(list, { cwd: process.cwd() });
  // Checks each shard once: otherwise all its IDs would be repeated.
  const shards = uniqueShards(listed);
  const telemetry = await createTelemetry({ logFile: null });
  const watch = watchSignals(() =>
    telemetry.log.warn("stopping; the report covers what was checked so far. Signal again to exit immediately"),
  );
  watch.signal.addEventListener("abort", () => telemetry.progress.end(), { once: true });
  for (const warning of warnings) telemetry.log.warn(warning);
  const startMs = performance.now();
  telemetry.progress.start("verify");
  try {
    const verification = await verifyShards(shards, {
      shape: videoShape(MODEL, flags.requireLabels ? "at least one" : "in range"),
      readers: flags.readers ?? chooseThreads(null, (message) => telemetry.log.warn(message)).count,
      signal: watch.signal,
      onProgress: progressCallback(telemetry, startMs, shards.length),
      onSlow: (path, waitedMs) => telemetry.log.warn(describeWait(`no data from ${path}`, waitedMs)),
    });
    telemetry.progress.end();
    const seconds = (performance.now() - startMs) / 1000;
    const report = verifyReport(verification, { list: describeFileList(list), listProblem: problem, repeated, seconds });
    await printResult(flags, report, formatVerification(verification, report));
    if (report.stopped) return watch.exitCode();
    return report.problems > 0 ? 1 : 0;
  } finally {
    await telemetry.close();
    watch.end();
  }
}

/** Returns the config of --config, or YouTube-8M's by default. */
function loadVerifyConfig(flags: VerifyFlags): Promise<Config> | Config {
  const { config, set = [] } = flags;
  const overrides = { flags: configOverrides("verify", flags), settings: set };
  return config === undefined ? buildConfig({ MODEL: null }, "--set", overrides) : loadConfig(config, overrides);
}

/** Returns a callback that updates the progress bar, and logs a line every LOG_INTERVAL_MS. */
function progressCallback({ log, progress }: Telemetry, startMs: number, shards: number): (state: VerifyProgress) => void {
  let loggedMs = startMs;
  return (state) => {
    const nowMs = performance.now();
    const seconds = (nowMs - startMs) / 1000;
    const megabytesPerSecond = state.bytes / 1e6 / seconds;
    const secondsLeft = (seconds / state.fraction) * (1 - state.fraction);
    const { fraction, videos, problems } = state;
    progress.update({ fraction, videosPerSecond: videos / seconds, secondsLeft, megabytesPerSecond, problems });
    if (nowMs - loggedMs < LOG_INTERVAL_MS) return;
    loggedMs = nowMs;
    const share = `${(100 * state.fraction).toFixed(0)} %, ${state.shards} of ${shards} shards`;
    log.info(state, `verify: ${share}, ${state.videos} videos, ${megabytesPerSecond.toFixed(0)} MB/s, problems ${state.problems}`);
  };
}
