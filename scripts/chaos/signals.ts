import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createRandom } from "../../src/base/random.js";
import { areEqual, copyShard, countArgument, finish, prepareDigits, printTable, start, started } from "./workplace.js";

// Sends SIGTERM to each command at random moments (the argument: how many times), and kill -9 to eval and infer, which save partial results, while all cores
// are busy. The exit code must report the signal, each result must be complete or missing, and the same command run again must produce the files of an
// undisturbed run, byte for byte, and no other files.

interface Case {
  readonly command: string;
  readonly signal: "SIGTERM" | "SIGKILL";
  readonly rounds: number;
  readonly args: (saveDir: string) => string[];
  /** Matches the output of a run that resumes. */
  readonly resumes: RegExp;
}

const rounds = countArgument(20);
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
const random = createRandom(seed, "digits");
const directory = mkdtempSync(join(tmpdir(), "nextvlad-signals-"));
const config = await prepareDigits(directory);
const list = join(directory, "digits", "train.list");
await finish(["train", "--config", config, "--save-dir", join(directory, "trained")]);
const weights = ["--weights", join(directory, "trained", "best"), "--filelist", list, "--batch-size", "4"];
// Enough shards for convert to be stopped between two of them.
const copies = copyShard(join(directory, "digits"), directory, 40);

const savesPartialResults = { resumes: /resuming after batch/ };
const evaluate = (saveDir: string): string[] => [...weights, "--save-dir", saveDir, "--predictions", "--resume", "--save-interval", "8"];
const infer = (saveDir: string): string[] => {
  return [...weights, "--save-dir", saveDir, "--format", "pickle,csv,jsonl", "--resume", "--save-interval", "8"];
};
const kills = Math.ceil(rounds / 4);
const cases: readonly Case[] = [
  { command: "infer", signal: "SIGTERM", rounds, args: infer, ...savesPartialResults },
  { command: "eval", signal: "SIGTERM", rounds, args: evaluate, ...savesPartialResults },
  {
    command: "convert",
    signal: "SIGTERM",
    rounds,
    args: (out) => ["--to", "pkl", "--filelist", copies, "--out", out, "--workers", "2"],
    resumes: /shards are up to date/,
  },
  { command: "eval", signal: "SIGKILL", rounds: kills, args: evaluate, ...savesPartialResults },
  { command: "infer", signal: "SIGKILL", rounds: kills, args: infer, ...savesPartialResults },
  {
    command: "train",
    signal: "SIGTERM",
    rounds,
    args: (saveDir) => ["--config", config, "--save-dir", saveDir, "--resume", "--save-interval", "5"],
    resumes: /resuming from/,
  },
];

// Busy processes for the cores that are idle.
const idleCores = Math.max(0, Math.ceil(availableParallelism() - (loadavg()[0] as number)));
const load = Array.from({ length: idleCores }, (): ChildProcess => spawn(process.execPath, ["-e", "for (;;);"]));
const rows: (string | number)[][] = [
  ["command", "signal", "times", "stopped", "finished before", "other exits", "incomplete results", "resumed", "equal results"],
];
let failures = 0;
try {
  for (const each of cases) {
    rows.push(await tryCase(each));
    process.stderr.write(`signals: ${rows.at(-1)?.join(", ")}\n`);
  }
} finally {
  for (const child of load) child.kill("SIGKILL");
}
printTable(rows);
process.stdout.write(`\nSEED=${seed}; "stopped": exit code 143, or killed by SIGKILL; "resumed": did not start from the beginning\n`);
if (failures > 0) {
  process.stdout.write(`${failures} failures; files of the runs: ${directory}\n`);
  process.exitCode = 1;
} else rmSync(directory, { recursive: true });

async function tryCase({ command, signal: sent, rounds: times, args, resumes }: Case): Promise<(string | number)[]> {
  const undisturbed = join(directory, `${command}-${sent}`, "undisturbed");
  const first = start([command, ...args(undisturbed)]);
  await started(first);
  const since = performance.now();
  const { exitCode: firstExit, output } = await first.ended;
  if (firstExit !== 0) throw new Error(`nextvlad ${command} exited with ${firstExit}:\n${output}`);
  const undisturbedMs = performance.now() - since;
  const results = resultsIn(undisturbed);
  const counts = { stopped: 0, ended: 0, other: 0, partial: 0, resumed: 0, equal: 0 };
  for (let round = 0; round < times; round++) {
    const saveDir = join(directory, `${command}-${sent}`, String(round));
    const running = start([command, ...args(saveDir)]);
    await started(running);
    void sleep(random.below(Math.round(undisturbedMs)), undefined, { ref: false }).then(() => running.child.kill(sent));
    const { exitCode, signal } = await running.ended;
    if (sent === "SIGKILL" ? signal === sent : exitCode === 143) counts.stopped++;
    else if (exitCode === 0) counts.ended++;
    else counts.other++;
    for (const name of results) {
      const path = join(saveDir, name);
      if (!name.includes("/") && existsSync(path) && !readFileSync(path).equals(readFileSync(join(undisturbed, name)))) counts.partial++;
    }
    if (exitCode !== 0) {
      const again = await start([command, ...args(saveDir)]).ended;
      if (again.exitCode !== 0) process.stderr.write(`signals: ${command} again: ${again.output.slice(-600)}\n`);
      if (resumes.test(again.output)) counts.resumed++;
    }
    if (String(resultsIn(saveDir)) === String(results) && areEqual(saveDir, undisturbed, results)) counts.equal++;
    else process.stderr.write(`signals: ${saveDir}: the results differ\n`);
    process.stderr.write(`signals: ${command}, ${sent} ${round + 1} of ${times}\n`);
  }
  const { stopped, ended, other, partial, resumed, equal } = counts;
  failures += other + partial + (times - equal);
  return [command, sent, times, stopped, ended, other, partial, resumed, equal];
}

/** Lists the files of a run except its log, its events for TensorBoard and step snapshots, which depend on where training was stopped. */
function resultsIn(saveDir: string): readonly string[] {
  const names = readdirSync(saveDir).filter((name) => !/\.log\.jsonl$|\.tfevents\.|^NEXTVLAD_step/.test(name));
  const files = ["weights.safetensors", "optimizer.safetensors", "state.json"];
  return names.sort().flatMap((name) => (/^(NEXTVLAD_epoch\d+|best)$/.test(name) ? files.map((file) => `${name}/${file}`) : [name]));
}
