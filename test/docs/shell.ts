import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository, runNextvlad } from "../helpers/nextvlad.js";

/** Programs that are recorded instead of run. Everything else in a block is run by bash. */
const RECORDED = [
  ...["nextvlad", "npm", "node", "python", "python3", "pip", "curl", "tar", "sudo", "git", "docker"],
  ...["scripts/setup.sh", "scripts/demo.sh", "scripts/chaos.sh", "scripts/pack/check.sh", "scripts/docs/record.sh"],
  "scripts/reproduce-youtube8m.sh",
];

const PRELUDE = `set -euo pipefail
record() { printf '%s\\0' "$@" $'\\1' >&3; }
${RECORDED.map((name) => `${name}() { record ${name} "$@"; }`).join("\n")}
npx() { record "$@"; }
npm() { if [ "$1" = root ]; then printf '%s\\n' "$NPM_ROOT"; else record npm "$@"; fi; }
command_not_found_handle() { record "$@"; }
`;

/** Runs a block of shell code in a folder and returns the commands that it runs, in order, each with its arguments after expansion. */
export function recordCommands(code: string, cwd: string): readonly (readonly string[])[] {
  const ended = spawnSync("bash", ["-c", PRELUDE + code], {
    cwd,
    env: { ...process.env, NPM_ROOT: join(cwd, "node_modules") },
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    encoding: "utf8",
  });
  assert.equal(ended.status, 0, `${code}\n${ended.stderr}`);
  return (ended.output[3] ?? "")
    .split("\0\x01\0")
    .slice(0, -1)
    .map((command) => command.split("\0"));
}

/**
 * Runs a block of shell code in a folder: nextvlad's commands in this process, with `smaller` applied to their arguments; all others are checked against the
 * repository. Returns the standard output of nextvlad's commands. Fails if a command does not exit with 0.
 */
export async function runBlock(
  code: string,
  cwd: string,
  smaller: (args: readonly string[]) => readonly string[] = (args) => args,
): Promise<string> {
  const printed: string[] = [];
  for (const [program = "", ...args] of recordCommands(code, cwd)) {
    if (program !== "nextvlad" || args[0] === "setup") {
      checkCommand(program, args);
      continue;
    }
    const ended = await runNextvlad(smaller(args), { cwd });
    assert.equal(ended.exitCode, 0, `nextvlad ${args.join(" ")}\n${ended.stderr}`);
    printed.push(ended.stdout);
  }
  return printed.join("");
}

const manifest = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
};

/** Commands of other programs, and those that change the system. They are not run. */
const EXTERNAL: readonly RegExp[] = [
  /^nextvlad setup( --device (cpu|gpu))?$/,
  /^npm (test|uninstall -g nextvlad)$/,
  new RegExp(`^npm i (-g )?--ignore-scripts \\./nextvlad-(\\*|${manifest.version})\\.tgz$`),
  /^curl -O http:\/\/data\.yt8m\.org\/download\.py$/,
  /^curl http:\/\/data\.yt8m\.org\/yt8m_pca\.tgz$/,
  /^curl -O https:\/\/raw\.githubusercontent\.com\/google\/youtube-8m\/master\/segment_label_ids\.csv$/,
  /^curl --create-dirs -o \S+ https:\/\/paddlemodels\./,
  /^pip install tensorboard$/,
  /^tensorboard --logdir \S+$/,
  /^curl -O http:\/\/storage\.googleapis\.com\/us_audioset\/youtube_corpus\/v1\/(features\/features\.tar\.gz|csv\/class_labels_indices\.csv)$/,
  /^tar xzf features\.tar\.gz$/,
  /^tar xz( -C \S+)?$/,
  /^python (\.\.\/\.\.\/)?download\.py$/,
  /^docker build -t nextvlad( --build-arg NEXTVLAD_DEVICE=gpu)? \.$/,
  /^docker run --rm --init --user \d+:\d+ --volume \S+:\/work( --gpus all)? nextvlad (digits|train) /,
];

/** Checks a command that is not run: that its script exists, and that the script has the flags. Fails for an unknown command. */
function checkCommand(program: string, args: readonly string[]): void {
  const text = args.join(" ");
  const command = `${program} ${text}`;
  if (EXTERNAL.some((pattern) => pattern.test(command))) return;
  const [first = "", second = "", ...rest] = args;
  if (program === "npm" && first === "run") {
    assert.ok(second in manifest.scripts && (rest.length === 0 || rest[0] === "--"), command);
    checkFlags(/dist\/(\S+)\.js/.exec(manifest.scripts[second] ?? "")?.[1], rest.slice(1));
  } else if (program === "node") {
    assert.match(first, /^dist\/scripts\/.*\.js$/);
    checkFlags(first.replace(/^dist\/(.*)\.js$/, "$1"), args.slice(1));
  } else {
    const script = program.startsWith("scripts/") ? program : first;
    assert.ok(script.startsWith("scripts/") && existsSync(join(repository, script)), `unknown command: ${command}`);
  }
}

/** Checks that a script of the repository, given without its extension, declares the flags in its own file or in one of its folder that parses arguments. */
function checkFlags(script: string | undefined, args: readonly string[]): void {
  const flags = args.filter((arg) => arg.startsWith("--"));
  if (script === undefined) {
    assert.deepEqual(flags, []);
    return;
  }
  const source = join(repository, `${script}.ts`);
  assert.ok(existsSync(source), source);
  const files = [source, join(source, "../arguments.ts"), join(source, "../audioset.ts"), join(source, "../recipes.ts")].filter((file) =>
    existsSync(file),
  );
  const text = files.map((file) => readFileSync(file, "utf8")).join("\n");
  for (const flag of flags) assert.match(text, new RegExp(`["\\s{,]${flag.slice(2)}"?: ?[{\\d]`), `${script} ${flag}`);
}
