import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { program } from "../../src/cli.js";
import { FLAG_GROUPS } from "../../src/commands/help.js";
import { temporaryFolder } from "../helpers/files.js";
import { runNextvlad } from "../helpers/nextvlad.js";

const COMMANDS: readonly string[] = program.commands.map((command) => command.name());

const has = (shell: string): boolean => spawnSync(shell, ["-c", "true"]).status === 0;

async function writeScript(folder: string, shell: string): Promise<string> {
  const { exitCode, stdout } = await runNextvlad(["completion", shell]);
  assert.equal(exitCode, 0);
  const path = join(folder, `nextvlad.${shell}`);
  writeFileSync(path, stdout);
  return path;
}

function run(shell: string, args: readonly string[]): readonly string[] {
  const { status, stdout, stderr } = spawnSync(shell, args, { encoding: "utf8", env: { ...process.env, TERM: "dumb" } });
  assert.deepEqual([status, stderr], [0, ""]);
  return stdout.split("\n").filter(Boolean);
}

describe("completion", () => {
  test("in bash, of commands, flags, values and paths", async (t) => {
    const folder = temporaryFolder(t);
    const script = await writeScript(folder, "bash");
    writeFileSync(join(folder, "weights.npz"), "");
    /** Completes the last word, as bash does: it calls the function with the command, the word and the word before. */
    const complete = (...words: readonly string[]): readonly string[] => {
      const [last = "", previous = ""] = words.toReversed();
      const variables = `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}) COMP_CWORD=${words.length - 1} COMP_LINE='${words.join(" ")}'`;
      // Outside of a completion, compopt fails.
      const call = `compopt() { :; }; ${variables}; _nextvlad nextvlad '${last}' '${previous}'; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return run("bash", ["-c", `source ${script}; cd ${folder}; ${call}`]);
    };
    assert.deepEqual(complete("nextvlad", "ev"), ["eval"]);
    const train = complete("nextvlad", "train", "--");
    const options = program.commands.find((command) => command.name() === "train")?.options ?? [];
    assert.deepEqual(train.toSorted(), [...options.map(({ long }) => long as string), "--help"].toSorted());
    assert.deepEqual(complete("nextvlad", "train", "--use-gpu", "a"), ["auto"]);
    assert.deepEqual(complete("nextvlad", "train", "--precision", ""), ["float32", "tf32"]);
    assert.deepEqual(complete("nextvlad", "infer", "--precision", "int"), ["int16", "int8"]);
    assert.deepEqual(complete("nextvlad", "train", "--on-nan", ""), ["stop", "skip-batch"]);
    assert.deepEqual(complete("nextvlad", "eval", "--model-name", "NET"), ["NETVLAD"]);
    assert.deepEqual(complete("nextvlad", "export", "--format", "pa"), ["paddle-vars"]);
    assert.deepEqual(complete("nextvlad", "eval", "--weights", "wei"), ["weights.npz"]);
    assert.deepEqual(complete("nextvlad", "completion", "f"), ["fish"]);
    assert.deepEqual(complete("nextvlad", "train", "--set", "MODEL.cl"), ["MODEL.cluster_size="]);
    assert.deepEqual(complete("nextvlad", "infer", "--format", ""), ["pickle", "csv", "jsonl"]);
    // Bash divides words at equals signs.
    assert.deepEqual(complete("nextvlad", "eval", "--use-gpu", "=", "a"), ["auto"]);
    assert.deepEqual(complete("nextvlad", "eval", "--use-gpu", "="), ["True", "False", "auto"]);
    assert.deepEqual(complete("nextvlad", "train", "--set", "TRAIN.filelist", "=", "wei"), ["weights.npz"]);
    assert.deepEqual(complete("nextvlad", "predict", "--infer"), ["--infer-topk"]);
    assert.deepEqual(complete("nextvlad", "he"), ["help"]);
    assert.deepEqual(complete("nextvlad", "help", ""), COMMANDS);
  });

  test("in fish", { skip: has("fish") ? false : "fish is missing" }, async (t) => {
    const script = await writeScript(temporaryFolder(t), "fish");
    const complete = (line: string): readonly string[] =>
      run("fish", ["--no-config", "-c", `source ${script}; complete -C '${line}'`]).map((found) => found.split("\t")[0] as string);
    assert.deepEqual(complete("nextvlad ens"), ["ensemble"]);
    assert.ok(complete("nextvlad train --acc").includes("--accumulate"));
    assert.deepEqual(complete("nextvlad export --format on"), ["onnx"]);
    assert.deepEqual(complete("nextvlad completion z"), ["zsh"]);
    assert.ok(complete("nextvlad train --set MODEL.cl").includes("MODEL.cluster_size="));
    assert.ok(complete("nextvlad predict --infer").includes("--infer-topk"));
    assert.deepEqual(complete("nextvlad he"), ["help"]);
    assert.deepEqual(complete("nextvlad help ").toSorted(), COMMANDS.toSorted());
  });

  test("in zsh, is a function that zsh can load", { skip: has("zsh") ? false : "zsh is missing" }, async (t) => {
    const script = await writeScript(temporaryFolder(t), "zsh");
    run("zsh", ["-f", "-n", script]);
    run("zsh", ["-f", "-c", `autoload -Uz compinit; compinit -u -D; source ${script}; [[ $_comps[nextvlad] == _nextvlad ]]`]);
  });

  test("in zsh, of the commands that help describes", { skip: has("zsh") ? false : "zsh is missing" }, async (t) => {
    const script = await writeScript(temporaryFolder(t), "zsh");
    // Prints what the function passes to zsh's own completion.
    const builtins = `compdef() { :; }; _arguments() { print -rl -- "$@"; }; _describe() { print -rl -- $commands; }`;
    const complete = (words: string, current: number) =>
      run("zsh", ["-f", "-c", `${builtins}; source ${script}; words=(${words}); CURRENT=${current}; _nextvlad`]);
    assert.ok(complete("nextvlad ''", 2).includes("help:display help for command"));
    assert.deepEqual(complete("nextvlad help ''", 3), [`1:argument:(${COMMANDS.join(" ")})`]);
  });

  test("of an unknown shell is an error", async () => {
    const { exitCode, error } = await runNextvlad(["completion", "csh"]);
    assert.equal(exitCode, 2);
    assert.match(error, /expected bash, zsh or fish, found "csh"/);
  });
});

test("each flag is in one group of the help, and each group's flags exist", () => {
  const flags = new Set(program.commands.flatMap(({ options }) => options.map(({ long }) => long?.slice(2))));
  const grouped = Object.values(FLAG_GROUPS).flat();
  assert.equal(new Set(grouped).size, grouped.length);
  assert.deepEqual(new Set(grouped), flags);
});
