import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, test } from "node:test";
import { referencePages } from "../../scripts/docs/reference.js";
import { program } from "../../src/cli.js";
import { FOREIGN_FLAGS, IGNORED_FLAGS } from "../../src/commands/arguments.js";
import { flagsOfCommand } from "../../src/commands/process.js";
import { findKey } from "../../src/config/keys.js";
import { loadConfig } from "../../src/config/load.js";
import { repository } from "../helpers/nextvlad.js";
import { findAll, PAGES, readPage } from "./pages.js";

/** Returns the anchor that GitHub gives a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, "")
    .trim()
    .replaceAll(" ", "-");
}

describe("generated pages are up to date (npm run docs):", () => {
  for (const [path, text] of Object.entries(referencePages())) {
    test(path, () => assert.equal(readPage(path), text));
  }
});

for (const page of PAGES) {
  describe(page, () => {
    const text = readPage(page);

    test("links and paths exist", () => {
      for (const link of findAll(text, /\]\((?!http)([^)]+)\)/g)) {
        const [path = "", anchor] = link.split("#");
        const target = path === "" ? page : join(dirname(page), path);
        assert.ok(existsSync(join(repository, target)), link);
        if (anchor === undefined) continue;
        const anchors = findAll(readPage(target), /^#+ (.*)$/gm).map(anchorOf);
        assert.ok(anchors.includes(anchor), `${link}: ${anchors.join(", ")}`);
      }
      for (const path of findAll(text, /`((?:scripts|configs|src|test|native|docs)\/[\w./-]+)`/g))
        assert.ok(existsSync(join(repository, path)), path);
    });

    test("config keys exist", () => {
      for (const key of findAll(text, /\b((?:MODEL|TRAIN|VALID|TEST|INFER)\.[a-z_0-9]+)\b/g)) {
        const [section = "", name = ""] = key.split(".");
        assert.ok(name === "key" || name === "cluster_sise" || findKey(section, name) !== undefined, key);
      }
    });

    test("flags exist", () => {
      for (const flag of findAll(text, /(?<=[\s`(])(--[a-z][a-z_-]+)/g)) assert.ok(FLAGS.has(flag.replaceAll("_", "-")), flag);
    });
  });
}

/** Flags that the pages name: nextvlad's, and those of its scripts and of other programs. */
const FLAGS: ReadonlySet<string> = new Set([
  ...program.commands.flatMap((command) => [...flagsOfCommand(command)]),
  ...["--help", "--lr", "--seed", "--ignore-scripts", "--create-dirs"],
  ...Object.keys(FOREIGN_FLAGS),
  ...Object.keys(IGNORED_FLAGS),
  // Scripts of this repository: their tests are in shell.ts.
  ...[
    "--against",
    "--all",
    "--batch",
    "--ci",
    "--frames",
    "--from",
    "--from-shards",
    "--hold-out",
    "--inputs",
    "--isa",
    "--jobs",
    "--list",
    "--match",
    "--pairs",
    "--runs",
    "--steps",
  ],
  ...["--peers", "--readers", "--seconds", "--seeds", "--test-name-pattern", "--videos", "--xla-cpu-max-isa"],
  // Docker's.
  ...["--build-arg", "--gpus", "--init", "--rm", "--user", "--volume"],
  "--logdir",
  // MediaPipe's.
  ...["--calculator-graph-config-file", "--clip-end-time-sec", "--input-side-packets", "--output-side-packets", "--path-to-input-video"],
  // Slurm's srun.
  ...["--distribution", "--gpus-per-task", "--kill-on-bad-exit", "--nodes", "--ntasks-per-node"],
]);

test("the README links to every page, and is short", () => {
  const readme = readPage("README.md");
  assert.ok(readme.split("\n").length <= 161);
  for (const page of PAGES) assert.ok(page === "README.md" || readme.includes(`](${page})`), page);
});

test("no command on a page requires a GPU without saying so", async () => {
  const commands = PAGES.filter((page) => page !== "docs/gpu.md" && page !== "docs/coming-from-paddlevideo.md").flatMap((page) =>
    findAll(readPage(page).replaceAll("\\\n", " "), /nextvlad (train .*--config .*configs\/.*)/g),
  );
  assert.ok(commands.length >= 3, commands.join("\n"));
  for (const command of commands) {
    const [, config = ""] = /--config \S*(configs\/[\w-]+\.yaml)/.exec(command) ?? [];
    const { TRAIN } = await loadConfig(join(repository, config));
    assert.ok(TRAIN.use_gpu === "auto" || command.includes("--use-gpu auto"), command);
  }
});

describe("the file tree in CONTRIBUTING.md", () => {
  const listed = readTree(readPage("CONTRIBUTING.md"));

  test("names files and directories that exist", () => {
    assert.ok(listed.length > 40);
    for (const path of listed) assert.ok(existsSync(join(repository, path)), path);
  });

  test("names every directory of src and native", () => {
    for (const root of ["src", "native"]) {
      const entries = readdirSync(join(repository, root), { recursive: true, withFileTypes: true });
      const folders = entries
        .filter((entry) => entry.isDirectory())
        .map(({ parentPath, name }) => `${relative(repository, join(parentPath, name))}/`);
      for (const folder of folders) assert.ok(listed.includes(folder), folder);
    }
  });
});

/** Returns the paths of an indented file tree, the first code block without a language that begins with a folder. Each line is a name and its description. */
function readTree(page: string): readonly string[] {
  const [, tree = ""] = /^```\n(\w+\/ .*?)^```$/ms.exec(page) ?? [];
  const parents: string[] = [];
  return tree.split("\n").flatMap((line) => {
    const [, indent = "", names = ""] = /^( *)([^\s,]+(?:, [^\s,]+)*)/.exec(line) ?? [];
    if (names === "") return [];
    const depth = indent.length / 2;
    parents.length = depth;
    parents[depth] = names;
    const folder = parents.slice(0, depth).join("");
    return names.split(", ").map((name) => folder + name);
  });
}
