import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createRandom } from "../../src/base/random.js";
import { checkSnapshot, listSnapshots } from "../../src/checkpoints/snapshot.js";
import { areEqual, countArgument, finish, prepareDigits, printTable, start } from "./workplace.js";

// Kills training at random moments and resumes it until it completes, and repeats this until the number of kills (the argument) is reached. The final weights,
// the optimizer moments and the best snapshot must equal those of an undisturbed run, and every snapshot must be valid after each kill.

const kills = countArgument(100);
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
const random = createRandom(seed, "digits");
const directory = mkdtempSync(join(tmpdir(), "nextvlad-chaos-"));
const ARRAYS = ["NEXTVLAD_epoch1", "best"].flatMap((name) => ["weights", "optimizer"].map((array) => `${name}/${array}.safetensors`));
const FINAL = [...ARRAYS, "NEXTVLAD_epoch1/state.json", "best/state.json"];

const config = await prepareDigits(directory);
const train = (saveDir: string): string[] => {
  const saving = ["--resume", "--save-interval", "1", "--keep", "3"];
  return ["train", "--config", config, "--save-dir", join(directory, saveDir), "--log-interval", "0", ...saving];
};
const since = performance.now();
await finish(train("undisturbed"));
let undisturbedMs = performance.now() - since;

const rows: (string | number)[][] = [
  ["training", "kills", "killed after s (resumed from)", "during a write", "snapshots checked", "corrupt", "final files"],
];
let [killed, corrupt, different] = [0, 0, 0];
for (let training = 1; killed < kills; training++) {
  const row = await trainThroughKills(`killed${training}`);
  rows.push([
    training,
    row.moments.length,
    row.moments.join(" "),
    row.inWrite,
    row.checked,
    row.corrupt,
    row.isEqual ? "equal" : "DIFFERENT",
  ]);
  killed += row.moments.length;
  corrupt += row.corrupt;
  different += row.isEqual ? 0 : 1;
  process.stderr.write(`chaos: ${killed} of ${kills} kills, ${different} runs with different results, ${corrupt} corrupt snapshots\n`);
  if (row.isEqual && row.corrupt === 0) rmSync(join(directory, `killed${training}`), { recursive: true });
}
printTable(rows);
process.stdout.write(`\n${killed} kills in ${rows.length - 1} runs (SEED=${seed}; undisturbed ${(undisturbedMs / 1000).toFixed(1)} s): `);
process.stdout.write(`${rows.length - 1 - different} produced the same bytes as the undisturbed run; ${corrupt} corrupt snapshots\n`);
if (different + corrupt > 0) {
  process.stdout.write(`files of the failed runs: ${directory}\n`);
  process.exitCode = 1;
} else rmSync(directory, { recursive: true });

interface Outcome {
  readonly moments: string[];
  inWrite: number;
  checked: number;
  corrupt: number;
  isEqual: boolean;
}

async function trainThroughKills(saveDir: string): Promise<Outcome> {
  const path = join(directory, saveDir);
  const outcome: Outcome = { moments: [], inWrite: 0, checked: 0, corrupt: 0, isEqual: false };
  for (;;) {
    const { child, startedMs, ended } = start(train(saveDir));
    const delayMs = 100 + random.below(Math.round(undisturbedMs));
    // After enough kills, let the last training complete.
    if (killed + outcome.moments.length < kills) void sleep(delayMs, undefined, { ref: false }).then(() => child.kill("SIGKILL"));
    const { exitCode, signal, output } = await ended;
    const from = /resuming from \S*?(?:NEXTVLAD_)?(\w+): epoch/.exec(output)?.[1];
    const place = from ?? (output.includes("starting from the beginning") ? "start" : "not started");
    if (signal !== "SIGKILL") {
      if (exitCode !== 0) throw new Error(`a resumed run exited with ${exitCode}:\n${output}`);
      // Use the fastest run from start to end: if the machine was busier during the first one, most later runs would complete before the kill.
      if (place === "start") undisturbedMs = Math.min(undisturbedMs, performance.now() - startedMs);
      break;
    }
    outcome.moments.push(`${(delayMs / 1000).toFixed(1)} (${place})`);
    if (readDirectory(path).some((name) => /\.(unfinished|removed)-/.test(name))) outcome.inWrite++;
    await checkAll(path, outcome);
  }
  const leftovers = readDirectory(path).filter((name) => name.startsWith("."));
  outcome.isEqual = leftovers.length === 0 && areEqual(path, join(directory, "undisturbed"), FINAL);
  return outcome;
}

async function checkAll(saveDir: string, outcome: Outcome): Promise<void> {
  for (const name of await listSnapshots(saveDir)) {
    outcome.checked++;
    await checkSnapshot(join(saveDir, name)).catch((error: unknown) => {
      outcome.corrupt++;
      process.stderr.write(`chaos: ${name}: ${(error as Error).message}\n`);
    });
  }
}

function readDirectory(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
