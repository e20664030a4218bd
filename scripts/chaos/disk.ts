import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { checkSnapshot } from "../../src/checkpoints/snapshot-check.js";
import { listSnapshots } from "../../src/checkpoints/snapshot-layout.js";
import { areEqual, type Ended, finish, prepareDigits, printTable, start } from "./workplace.js";

// Takes the disk away from under running commands, in all the ways that it goes: what they say, how they exit, what is left, and whether the run
// goes on to the same end once the disk is back. Most of it needs root, for mounting small file systems in memory.

const folder = mkdtempSync(join(tmpdir(), "nextvlad-disk-"));
const config = await prepareDigits(folder);
const undisturbed = join(folder, "undisturbed");
const train = (saveDir: string, ...more: string[]): string[] => {
  return ["train", "--config", config, "--save-dir", saveDir, "--resume", "--save-interval", "5", "--log-interval", "1", ...more];
};
await finish(train(undisturbed));
const FINAL = ["weights.safetensors", "optimizer.safetensors"].map((name) => `NEXTVLAD_epoch1/${name}`);
const canMount = process.getuid?.() === 0 && mount(join(folder, "probe"), "size=1m") && unmount(join(folder, "probe"));

const rows: string[][] = [["case", "exit", "snapshots left", "resumed end"]];
const messages: string[] = [];
let wrong = 0;

if (canMount) {
  await tryCase("the disk has room for one snapshot and a half", async (disk) => {
    const ended = await onSmallDisk(disk, "size=30m", () => start(train(disk, "--keep", "9")).ended);
    run("mount", "-o", "remount,size=600m", disk);
    return ended;
  });
  await tryCase("the disk runs full in the midst of a snapshot", async (disk) => {
    // Out of names before it is out of bytes, which nobody can see coming: the lock, the log, the config, and a snapshot and a half.
    const ended = await onSmallDisk(disk, "size=600m,nr_inodes=12", () => start(train(disk)).ended);
    run("mount", "-o", "remount,nr_inodes=200", disk);
    return ended;
  });
  await tryCase("the disk is read-only when a run is to go on", async (disk) => {
    await onSmallDisk(disk, "size=600m", () => start(train(disk, "--set", "TRAIN.max_iter=12")).ended);
    run("mount", "-o", "remount,ro", disk);
    const ended = await start(train(disk)).ended;
    run("mount", "-o", "remount,rw", disk);
    return ended;
  });
  await tryCase("the disk is unmounted under the run", async (disk) => {
    const bind = `${disk}-bind`;
    mkdirSync(bind);
    if (!mount(disk, "size=600m")) throw new Error("mounting failed");
    run("mount", "--bind", disk, bind);
    const ended = await whenSaved(bind, () => run("umount", "-l", bind));
    rmSync(bind, { recursive: true });
    return ended;
  });
  for (const command of ["eval", "infer"]) {
    await tryCase(`the disk is full where ${command} writes its result`, async (disk) => {
      const weights = ["--weights", join(undisturbed, "best"), "--filelist", join(folder, "digits", "validate.list")];
      const ended = await onSmallDisk(disk, "size=600m,nr_inodes=2", () => start([command, ...weights, "--save-dir", disk]).ended);
      run("mount", "-o", "remount,nr_inodes=200", disk);
      return ended;
    });
  }
} else process.stdout.write("SKIPPED, as they need root and mounting: six cases of a disk that is full, read-only or gone\n");
await tryCase("the save-dir is removed under the run", (saveDir) => whenSaved(saveDir, () => rmSync(saveDir, { recursive: true })));
await tryCase("the save-dir is moved away under the run, and comes back", async (saveDir) => {
  const ended = await whenSaved(saveDir, () => renameSync(saveDir, `${saveDir}-away`));
  renameSync(`${saveDir}-away`, saveDir);
  return ended;
});
await tryCase("a second run on the save-dir, which is refused", async (saveDir) => {
  const refused: Ended[] = [];
  const first = await whenSaved(saveDir, async () => void refused.push(await start(train(saveDir)).ended));
  if (first.exitCode !== 0) return first;
  return refused[0] as Ended;
});

printTable(rows);
process.stdout.write(`\n${messages.join("\n")}\n`);
if (wrong > 0) process.exitCode = 1;
rmSync(folder, { recursive: true });

async function tryCase(name: string, work: (saveDir: string) => Promise<Ended>): Promise<void> {
  const saveDir = join(folder, name.replaceAll(/\W+/g, "-"));
  process.stderr.write(`disk: ${name}\n`);
  const { exitCode, output } = await work(saveDir);
  const [whole, damaged] = [[] as string[], [] as string[]];
  for (const each of await listSnapshots(saveDir)) {
    await checkSnapshot(join(saveDir, each)).then(
      () => whole.push(each.replace("NEXTVLAD_", "")),
      () => damaged.push(each),
    );
  }
  const trains = !/ (eval|infer) /.test(name);
  const resumed = trains ? await start(train(saveDir)).ended : null;
  const end = resumed === null ? "-" : resumed.exitCode === 0 && areEqual(saveDir, undisturbed, FINAL) ? "equal" : "DIFFERENT";
  const left = damaged.length > 0 ? `DAMAGED: ${damaged.join(" ")}` : whole.join(" ") || "none";
  if (exitCode !== 1 || damaged.length > 0 || end === "DIFFERENT") wrong++;
  rows.push([name, String(exitCode), left, end]);
  const error = output.split("\n").find((line) => line.startsWith("nextvlad: error: ")) ?? `NO ERROR: ${output.slice(-400)}`;
  messages.push(`${name}:\n  ${error.replaceAll(saveDir, "DIR").replaceAll(folder, "")}`);
  run("umount", "-q", "-l", saveDir);
}

/** Trains, and once the third snapshot is there, does something to its disk. */
async function whenSaved(saveDir: string, act: () => unknown): Promise<Ended> {
  const running = start(train(saveDir));
  let over = false;
  void running.ended.then(() => {
    over = true;
  });
  while (!over && (await listSnapshots(saveDir)).length < 3) await sleep(5);
  await act();
  return running.ended;
}

async function onSmallDisk(path: string, options: string, work: () => Promise<Ended>): Promise<Ended> {
  if (!mount(path, options)) throw new Error(`mounting ${path} failed`);
  return work();
}

function mount(path: string, options: string): boolean {
  mkdirSync(path, { recursive: true });
  return run("mount", "-t", "tmpfs", "-o", options, "tmpfs", path);
}

function unmount(path: string): boolean {
  return run("umount", path);
}

function run(...command: string[]): boolean {
  return spawnSync(command[0] as string, command.slice(1), { stdio: "ignore" }).status === 0;
}
