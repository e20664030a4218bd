import assert from "node:assert/strict";
import { test } from "node:test";
import { program } from "../../src/cli.js";
import { normalizeArguments } from "../../src/commands/arguments.js";
import { flagsOfCommand } from "../../src/commands/process.js";
import { resumeCommand as resumeNormalised } from "../../src/commands/resume-command.js";
import { runProgram } from "../helpers/nextvlad.js";

const flagsOf = new Map(program.commands.map((command) => [command.name(), flagsOfCommand(command)]));

/** The resume command of arguments as the user wrote them. */
function resumeCommand(args: readonly string[], added?: readonly string[], dropped?: readonly string[]): string {
  return resumeNormalised(normalizeArguments(args, flagsOf).args, added, dropped);
}

test("the resume command is the original one with a single --resume, quoted for the shell", async () => {
  const args = ["infer", "--filelist", "/data/it's here/test*.tfrecord", "--set", "MODEL.topk=5", "--weights", "a b"];
  const command = resumeCommand(args);
  const { stdout } = await runProgram("bash", ["-c", `nextvlad() { printf '%s\\n' "$@"; }; ${command}`]);
  assert.deepEqual(stdout.trimEnd().split("\n"), [...args, "--resume"]);
  assert.equal(resumeCommand(["eval", "--filelist", "a b", "c", "--resume"]), "nextvlad eval --filelist 'a b' c --resume");
  assert.equal(resumeCommand(["eval", "--resume", "--batch-size=4"]), "nextvlad eval --batch-size 4 --resume");
});

test("an alias is replaced by its flag, and removed like it, in either form", () => {
  const drop = (args: readonly string[]) =>
    resumeCommand(["train", ...args, "-c", "x.yaml", "-o", "TRAIN.epoch=2"], ["--resume"], ["--pretrain"]);
  for (const args of [["-w", "some"], ["-wsome"], ["--pretrain", "some"]]) {
    assert.equal(drop(args), "nextvlad train --config x.yaml --set TRAIN.epoch=2 --resume");
  }
  assert.equal(resumeCommand(["eval", "-w", "some"]), "nextvlad eval --weights some --resume");
  assert.equal(
    resumeCommand(["train", "--seed", "False"], ["--resume", "--fix-random-seed", "7"]),
    "nextvlad train --resume --fix-random-seed 7",
  );
});

test("removes flags that apply only to the start of a run, and those that are replaced, with their values", () => {
  const args = ["train", "--pretrain=w", "--overwrite", "--keep", "2", "--resume", "old", "--resume_step", "5", "--on_corrupt", "error"];
  const start = ["--pretrain", "--overwrite", "--resume-step"];
  assert.equal(resumeCommand(args, ["--resume"], start), "nextvlad train --keep 2 --on-corrupt error --resume");
  const added = ["--resume", "x", "--fix-random-seed", "7", "--on-corrupt", "skip-record"];
  assert.equal(
    resumeCommand([...args, "--save_dir", "out", "--fix-random-seed=False"], added, start),
    "nextvlad train --keep 2 --save-dir out --resume x --fix-random-seed 7 --on-corrupt skip-record",
  );
});

test("reads a piped list from standard input, with a comment", () => {
  const note = "  # pass the same list of shards on standard input";
  for (const pipe of ["-", "/dev/fd/63", "/proc/self/fd/12", "/dev/stdin"]) {
    assert.equal(resumeCommand(["eval", "--filelist", pipe]), `nextvlad eval --filelist - --resume${note}`);
    assert.equal(resumeCommand(["infer", `--filelist=${pipe}`]), `nextvlad infer --filelist - --resume${note}`);
    assert.equal(resumeCommand(["train", "--set", `TRAIN.filelist=${pipe}`]), `nextvlad train --set TRAIN.filelist=- --resume${note}`);
  }
  assert.equal(resumeCommand(["eval", "--filelist", "/dev/fdx/63"]), "nextvlad eval --filelist /dev/fdx/63 --resume");
});

test("of two piped lists, one is read from standard input, and the other is a placeholder", () => {
  const lists = ["--set", "TRAIN.filelist=/dev/fd/63", "--set=VALID.filelist=/dev/fd/62"];
  assert.equal(
    resumeCommand(["train", ...lists]),
    "nextvlad train --set TRAIN.filelist=- --set VALID.filelist=VALID_FILELIST --resume" +
      "  # pass the same list of shards on standard input; replace VALID_FILELIST by files with the same content as before",
  );
});

test("train omits a piped config; in other commands it is a placeholder", () => {
  for (const config of [["--config", "/dev/fd/63"], ["--config=/dev/fd/63"], ["-c", "/dev/fd/63"]]) {
    assert.equal(resumeCommand(["train", ...config, "--keep", "2"]), "nextvlad train --keep 2 --resume");
  }
  assert.equal(
    resumeCommand(["infer", "--config", "/dev/fd/63", "--labels=/dev/fd/62", "--filelist", "a.list"]),
    "nextvlad infer --config CONFIG --labels LABELS --filelist a.list --resume  # replace CONFIG and LABELS by files with the same content as before",
  );
});

test("an added flag replaces --set of its config key, which would override it", () => {
  for (const set of [["--set", "TRAIN.on_corrupt=error"], ["--set=TRAIN.on_corrupt=error"], ["-o", "TRAIN.on_corrupt=error"]]) {
    assert.equal(
      resumeCommand(["train", ...set, "--set", "TRAIN.epoch=2"], ["--resume", "--on-corrupt", "skip-record"]),
      "nextvlad train --set TRAIN.epoch=2 --resume --on-corrupt skip-record",
    );
    assert.equal(resumeCommand(["train", ...set]), "nextvlad train --set TRAIN.on_corrupt=error --resume");
  }
});

test("a word with control characters is quoted for bash and safe to print", async () => {
  const word = "it's \\ a\n\u001b]0;x\u0007\u202e日";
  const command = resumeCommand(["train", "--save-dir", word], []);
  assert.equal(command, "nextvlad train --save-dir $'it\\'s \\\\ a\\x0A\\x1B]0;x\\x07\\xE2\\x80\\xAE日'");
  const { stdout } = await runProgram("bash", ["-c", `nextvlad() { printf %s "$3"; }; ${command}`]);
  assert.equal(stdout, word);
});
