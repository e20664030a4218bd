import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { findKey } from "../src/config/keys.js";
import { loadConfig } from "../src/config/load.js";
import { repository, runNextvlad } from "./commands/nextvlad.js";

const readme = readFileSync(join(repository, "README.md"), "utf8");
const manifest = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));

/** All matches of a pattern's first group, each once. */
function found(text: string, pattern: RegExp): string[] {
  return [...new Set(Array.from(text.matchAll(pattern), ([, first]) => first as string))];
}

describe("what the README shows", () => {
  test("npm scripts", () => {
    const names = found(readme, /npm (?:run )?(demo|test|build|lint|format|bench|package)\b/g);
    assert.ok(names.length >= 3);
    for (const name of names) assert.ok(name in manifest.scripts, name);
  });

  test("files and links, in the docs too", () => {
    for (const page of ["README.md", "CONTRIBUTING.md", ...readdirSync(join(repository, "docs")).map((name) => `docs/${name}`)]) {
      const text = readFileSync(join(repository, page), "utf8");
      const paths = [...found(text, /\]\((?!http)([^)#]+)\)/g), ...found(text, /`((?:scripts|configs|src|test|native|docs)\/[\w./-]+)`/g)];
      for (const path of paths) {
        const places = [join(repository, dirname(page), path), join(repository, path)];
        assert.ok(places.some(existsSync), `${page} names ${path}`);
      }
    }
  });

  test("flags, in the help of the commands that the table names", async () => {
    const helps = new Map<string, string>();
    for (const command of ["train", "eval", "infer", "convert", "ensemble"])
      helps.set(command, (await runNextvlad([command, "--help"])).stdout);
    const rows = found(readme, /^\|(\s*`--.*)$/gm);
    assert.ok(rows.length > 10);
    for (const row of rows) {
      const [flags = "", commands = ""] = row.split(" | ");
      for (const flag of found(flags, /(--[a-z-]+)/g)) {
        const of = found(commands, /\b(train|eval|infer|convert|ensemble)\b/g);
        for (const command of of) assert.ok(helps.get(command)?.includes(flag), `${command} ${flag}`);
      }
    }
  });

  test("config keys", () => {
    for (const key of found(readme, /\b((?:MODEL|TRAIN|VALID|TEST|INFER)\.[a-z_0-9]+)\b/g)) {
      const [section = "", name = ""] = key.split(".");
      if (name === "cluster_sise") continue;
      assert.ok(findKey(section, name) !== undefined, key);
    }
  });

  test("commands that train without a GPU too", async () => {
    const pages = [
      "README.md",
      "docs/own-features.md",
      "docs/performance.md",
      "docs/faq.md",
      "scripts/demo.sh",
      "scripts/train/train_nextvlad.sh",
    ];
    const commands = pages.flatMap((page) =>
      found(readFileSync(join(repository, page), "utf8").replaceAll("\\\n", " "), /(?:nextvlad|"\$cli") (train .*--config .*)/g),
    );
    const own = commands.filter((command) => command.includes("configs/"));
    assert.ok(own.length >= 3, own.join("\n"));
    for (const command of own) {
      const [, config = ""] = /--config \S*(configs\/[\w-]+\.yaml)/.exec(command) ?? [];
      const { TRAIN } = await loadConfig(join(repository, config));
      assert.ok(TRAIN.use_gpu === "auto" || command.includes("--use-gpu auto"), command);
    }
  });
});
