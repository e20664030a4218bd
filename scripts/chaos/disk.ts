import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkSnapshot, listSnapshots } from "../../src/checkpoints/snapshot.js";
import { areEqual, copyShard, type Ended, finish, prepareDigits, printTable, start } from "./workplace.js";

// Makes the disk of running commands fail: full, read-only, unmounted, removed or used by another run. Checks the error message, the exit code, the remaining
// files, and that the same command resumes to the same results once the disk is back. Most cases need root, to mount small tmpfs file systems.

/** A command to disturb. */
interface Victim {
  readonly command: string;
  readonly args: (saveDir: string) => string[];
  /** Result files of a complete run. */
  readonly results: readonly string[];
  /** Returns whether the disk holds something that a run can resume from. */
  readonly hasSaved: (saveDir: string) => boolean;
}

/** Text that the names of the cases to run contain; all cases run if it is omitted. */
const only = process.argv[2];
const directory = mkdtempSync(join(tmpdir(), "nextvlad-disk-"));
const config = await prepareDigits(directory);
const digits = join(directory, "digits");
const copies = copyShard(digits, directory, 40);
const inDirectory = (name: string): string => join(directory, name);
const trained = inDirectory("train-undisturbed");
const reading = ["--weights", join(trained, "best"), "--filelist", join(digits, "train.list"), "--batch-size", "1"];
const keeping = ["--resume", "--save-interval", "8"];

const train: Victim = {
  command: "train",
  args: (saveDir) => ["--config", config, "--save-dir", saveDir, "--resume", "--save-interval", "5", "--log-interval", "1"],
  results: ["weights.safetensors", "optimizer.safetensors"].map((name) => `NEXTVLAD_epoch1/${name}`),
  hasSaved: (saveDir) => existsSync(saveDir) && readdirSync(saveDir).filter((name) => /^(NEXTVLAD|best)/.test(name)).length >= 3,
};
const evaluate: Victim = {
  command: "eval",
  args: (saveDir) => [...reading, ...keeping, "--save-dir", saveDir, "--predictions", "jsonl"],
  results: ["NEXTVLAD_eval_result.json", "NEXTVLAD_eval_predictions.jsonl"],
  hasSaved: (saveDir) => existsSync(join(saveDir, "NEXTVLAD_eval_result.partial/state.json")),
};
const infer: Victim = {
  command: "infer",
  args: (saveDir) => [...reading, ...keeping, "--save-dir", saveDir, "--format", "pickle,jsonl"],
  results: ["NEXTVLAD_infer_result.pkl", "NEXTVLAD_infer_result.jsonl"],
  hasSaved: (saveDir) => existsSync(join(saveDir, "NEXTVLAD_infer_result.partial/state.json")),
};
const convert: Victim = {
  command: "convert",
  args: (saveDir) => ["--to", "pkl", "--filelist", copies, "--out", saveDir, "--workers", "1"],
  results: ["copy0.pkl", "copy20.pkl", "copy39.pkl"],
  hasSaved: (saveDir) => existsSync(join(saveDir, "copy1.pkl")),
};
const victims = [train, evaluate, infer, convert];
for (const { command, args } of victims) await finish([command, ...args(inDirectory(`${command}-undisturbed`))]);

const rows: string[][] = [["case", "message", "exit code", "remaining files", "second run"]];
let failed = 0;
const run = (...command: string[]): boolean => spawnSync(command[0] as string, command.slice(1), { stdio: "ignore" }).status === 0;
const canMount = process.getuid?.() === 0 && mount(inDirectory("probe"), "size=1m") && run("umount", inDirectory("probe"));

if (canMount) {
  await tryCase(train, "space for one and a half snapshots", async (disk) => {
    mount(disk, "size=30m");
    const ended = await begin(train, disk, "--keep", "9").ended;
    run("mount", "-o", "remount,size=600m", disk);
    return ended;
  });
  await tryCase(train, "the disk fills up during a snapshot", async (disk) => {
    // Runs out of inodes before bytes, which the check of the free space cannot predict: room for the lock, the log, the config, the events and one and a half snapshots.
    mount(disk, "size=600m,nr_inodes=13");
    const ended = await begin(train, disk).ended;
    run("mount", "-o", "remount,nr_inodes=200", disk);
    return ended;
  });
  for (const [victim, size] of [[evaluate, "100k"] as const, [infer, "140k"] as const, [convert, "24m"] as const]) {
    await tryCase(victim, "the disk fills up during the results", async (disk) => {
      mount(disk, `size=${size}`);
      const ended = await begin(victim, disk).ended;
      run("mount", "-o", "remount,size=600m", disk);
      return ended;
    });
  }
  for (const victim of victims) {
    await tryCase(victim, "the disk is read-only", async (disk) => {
      mount(disk, "size=600m");
      run("mount", "-o", "remount,ro", disk);
      const ended = await begin(victim, disk).ended;
      run("mount", "-o", "remount,rw", disk);
      return ended;
    });
  }
  await tryCase(train, "the disk is unmounted during the run", async (disk) => {
    const bind = `${disk}-bind`;
    mkdirSync(bind);
    mount(disk, "size=600m");
    run("mount", "--bind", disk, bind);
    const ended = await whenSaved(train, bind, () => run("umount", "-l", bind));
    rmSync(bind, { recursive: true });
    return ended;
  });
} else process.stdout.write("SKIPPED: ten cases of a full, read-only or missing disk, which need root to mount file systems\n");
for (const victim of victims) {
  await tryCase(victim, "the save-dir is removed during the run", (saveDir) =>
    whenSaved(victim, saveDir, () => {
      // Rename first, which is atomic: removal deletes file by file while the run writes.
      renameSync(saveDir, `${saveDir}-away`);
      rmSync(`${saveDir}-away`, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    }),
  );
}
await tryCase(train, "the save-dir is moved during the run, and moved back afterwards", async (saveDir) => {
  const ended = await whenSaved(train, saveDir, () => renameSync(saveDir, `${saveDir}-away`));
  renameSync(`${saveDir}-away`, saveDir);
  return ended;
});
for (const victim of victims) {
  await tryCase(victim, "a second run in the same save-dir at the same time", async (saveDir) => {
    const refused: Ended[] = [];
    const first = await whenSaved(victim, saveDir, async () => void refused.push(await begin(victim, saveDir).ended));
    return first.exitCode === 0 ? (refused[0] as Ended) : first;
  });
}

printTable(rows);
if (failed > 0) {
  process.stdout.write(`\n${failed} cases failed; files of the runs: ${directory}\n`);
  process.exitCode = 1;
} else rmSync(directory, { recursive: true });

async function tryCase(victim: Victim, name: string, work: (saveDir: string) => Promise<Ended>): Promise<void> {
  const { command, results } = victim;
  const saveDir = inDirectory(`${command}-${name.replaceAll(/\W+/g, "-")}`);
  if (only !== undefined && !`${command}: ${name}`.includes(only)) return;
  process.stderr.write(`disk: ${command}: ${name}\n`);
  const { exitCode, output } = await work(saveDir);
  const { remaining, isValid } = await describeRemaining(victim, saveDir);
  const again = await begin(victim, saveDir).ended;
  const isEqual = again.exitCode === 0 && areEqual(saveDir, inDirectory(`${command}-undisturbed`), results);
  const resumption = /resuming (?:after|from)|shards are up to date/.test(again.output) ? "resumes" : "starts from the beginning";
  if (exitCode !== 1 || !isValid || !isEqual) failed++;
  const [error = `NO ERROR: ${output.slice(-400)}`] = /^error\[.*(?:\n {2}.*)*/m.exec(output) ?? [];
  const message = error.replaceAll(saveDir, "DIR").replaceAll(directory, "").replaceAll("|", "\\|").replaceAll("\n", " ");
  const end = isEqual ? `${resumption}, same bytes` : `DIFFERENT: ${again.output.slice(-300).replaceAll("\n", " ")}`;
  rows.push([`${command}: ${name}`, message, String(exitCode), remaining, end]);
  process.stderr.write(`disk: | ${rows.at(-1)?.join(" | ")} |\n`);
  run("umount", "-q", "-l", saveDir);
}

/** Describes the files that a disturbed run left, and whether all of them are valid. */
async function describeRemaining(
  { command, results }: Victim,
  saveDir: string,
): Promise<{ readonly remaining: string; readonly isValid: boolean }> {
  const names = existsSync(saveDir) ? readdirSync(saveDir).filter((name) => !name.endsWith(".log.jsonl")) : [];
  if (names.length === 0) return { remaining: "none", isValid: true };
  if (command !== "train") {
    const undisturbed = inDirectory(`${command}-undisturbed`);
    const isValid = results.every((name) => !names.includes(name) || areEqual(saveDir, undisturbed, [name]));
    const shards = names.filter((name) => name.endsWith(".pkl") && command === "convert").length;
    const others = names.filter((name) => shards === 0 || !name.endsWith(".pkl"));
    return { remaining: [...(shards > 0 ? [`${shards} shards`] : []), ...others].join(", "), isValid };
  }
  const [valid, corrupt] = [[] as string[], [] as string[]];
  for (const each of await listSnapshots(saveDir)) {
    await checkSnapshot(join(saveDir, each)).then(
      () => valid.push(each.replace("NEXTVLAD_", "")),
      () => corrupt.push(each),
    );
  }
  return {
    remaining: corrupt.length > 0 ? `CORRUPT: ${corrupt.join(" ")}` : valid.join(", ") || "no snapshot",
    isValid: corrupt.length === 0,
  };
}

function begin({ command, args }: Victim, saveDir: string, ...more: string[]) {
  return start([command, ...args(saveDir), ...more]);
}

/** Runs the command and calls `act` once something has been saved. */
async function whenSaved(victim: Victim, saveDir: string, act: () => unknown): Promise<Ended> {
  const running = begin(victim, saveDir);
  let over = false;
  void running.ended.then(() => {
    over = true;
  });
  while (!over && !victim.hasSaved(saveDir)) await sleep(5);
  await act();
  return running.ended;
}

function mount(path: string, options: string): boolean {
  mkdirSync(path, { recursive: true });
  return run("mount", "-t", "tmpfs", "-o", options, "tmpfs", path);
}
