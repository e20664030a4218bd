import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createRandom } from "../../src/base/random.js";
import { areEqual, countArgument, finish, prepareDigits, printTable, start } from "./workplace.js";

// Sends SIGTERM to each command at random moments, so many times (the argument), while every core is busy with something else. The exit code must tell of
// it, a result must be there whole or not at all, and the same command given again must end in the bytes of one that nobody disturbed.

interface Case {
  readonly command: string;
  readonly args: (saveDir: string) => string[];
  /** What the save-dir must hold in the end. */
  readonly results: readonly string[];
}

const rounds = countArgument(20);
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
const random = createRandom(seed, "digits");
const folder = mkdtempSync(join(tmpdir(), "nextvlad-signals-"));
const config = await prepareDigits(folder);
const trained = join(folder, "train", "undisturbed");
const weights = ["--weights", join(trained, "best"), "--filelist", join(folder, "digits", "train.list"), "--batch-size", "4"];
const SNAPSHOT = ["weights.safetensors", "optimizer.safetensors", "state.json"].map((name) => `NEXTVLAD_epoch1/${name}`);
const cases: readonly Case[] = [
  {
    command: "train",
    args: (saveDir) => ["--config", config, "--save-dir", saveDir, "--resume", "--save-interval", "5"],
    results: SNAPSHOT,
  },
  { command: "eval", args: (saveDir) => [...weights, "--save-dir", saveDir], results: ["NEXTVLAD_eval_result.json"] },
  { command: "infer", args: (saveDir) => [...weights, "--save-dir", saveDir], results: ["NEXTVLAD_infer_result.pkl"] },
];

const load = Array.from({ length: availableParallelism() }, (): ChildProcess => spawn(process.execPath, ["-e", "for (;;);"]));
const rows: (string | number)[][] = [
  ["command", "SIGTERMs", "exit 143", "not begun yet", "had ended", "other exits", "partial results", "leftovers", "ends equal"],
];
let wrong = 0;
try {
  for (const each of cases) rows.push(await tryCase(each));
} finally {
  for (const child of load) child.kill("SIGKILL");
}
printTable(rows);
process.stdout.write(`\nSEED=${seed}; "not begun yet": it ended by the signal's default, before it had anything to save\n`);
if (wrong > 0) {
  process.stdout.write(`${wrong} things went wrong; what is left lies in ${folder}\n`);
  process.exitCode = 1;
} else rmSync(folder, { recursive: true });

async function tryCase({ command, args, results }: Case): Promise<(string | number)[]> {
  const undisturbed = join(folder, command, "undisturbed");
  const since = performance.now();
  await finish([command, ...args(undisturbed)]);
  const wholeMs = performance.now() - since;
  const counts = { stopped: 0, notBegun: 0, ended: 0, other: 0, partial: 0, leftovers: 0, equal: 0 };
  for (let round = 0; round < rounds; round++) {
    const saveDir = join(folder, command, String(round));
    const { child, ended } = start([command, ...args(saveDir)]);
    void sleep(random.below(Math.round(wholeMs)), undefined, { ref: false }).then(() => child.kill("SIGTERM"));
    const { exitCode, signal } = await ended;
    if (exitCode === 143) counts.stopped++;
    else if (signal === "SIGTERM") counts.notBegun++;
    else if (exitCode === 0) counts.ended++;
    else counts.other++;
    for (const name of results) {
      const path = join(saveDir, name);
      if (existsSync(path) && !readFileSync(path).equals(readFileSync(join(undisturbed, name)))) counts.partial++;
    }
    if (exitCode === 143 && readdirSync(saveDir).some((name) => name.startsWith("."))) counts.leftovers++;
    const { exitCode: again } = exitCode === 0 ? { exitCode: 0 } : await start([command, ...args(saveDir)]).ended;
    if (again === 0 && areEqual(saveDir, undisturbed, results)) counts.equal++;
    process.stderr.write(`signals: ${command} ${round + 1} of ${rounds}\n`);
  }
  const { stopped, notBegun, ended, other, partial, leftovers, equal } = counts;
  wrong += other + partial + leftovers + (rounds - equal);
  return [command, rounds, stopped, notBegun, ended, other, partial, leftovers, equal];
}
