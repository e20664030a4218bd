import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** The folders of src, from the bottom up: a file imports from its own folder and from those before it. */
const ORDER = [
  "base",
  "runtime",
  "formats",
  "config",
  "telemetry",
  "kernels",
  "distributed",
  "data",
  "results",
  "digits",
  "conversion",
  "model",
  "optim",
  "checkpoints",
  "inspection",
  "evaluation",
  "passes",
  "inference",
  "training",
  "report",
  "commands",
  "library",
  "cli.ts",
  "index.ts",
];

/** Folders that may branch on the device. `training/start.ts` and `passes/start-runtime.ts` only log or record it. */
const DEVICE_FOLDERS = ["kernels", "runtime"];

interface SourceFile {
  readonly path: string;
  readonly folder: string;
  readonly text: string;
}

const files: readonly SourceFile[] = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .filter((path) => path.endsWith(".ts"))
  .map((path) => ({ path: join("src", path), folder: path.split("/")[0] as string, text: readFileSync(join(ROOT, "src", path), "utf8") }));

/** Everything that a file imports, statically or dynamically, by its specifier. */
function importsOf({ text }: SourceFile): readonly string[] {
  return [...text.matchAll(/(?:from|import\(|import) ?"([^"]+)"/g)].map((match) => match[1] as string);
}

describe("imports", () => {
  test("run downward between the directories of src", () => {
    assert.ok(files.length > 100);
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => normalize(join(dirname(file.path), specifier)).split("/")[1] as string)
        .filter((folder) => ORDER.indexOf(folder) > ORDER.indexOf(file.folder) || !ORDER.includes(folder))
        .map((folder) => `${file.path} imports from ${folder}`),
    );
    assert.deepEqual(wrong, []);
  });

  test("of tfjs's JavaScript are nowhere: only its binding is loaded", () => {
    const wrong = files.filter((file) => importsOf(file).some((name) => name.startsWith("@tensorflow/")));
    assert.deepEqual(
      wrong.map(({ path }) => path),
      [],
    );
  });
});

test("no file outside src/kernels and src/runtime branches on the device", () => {
  const branches = files
    .filter(({ folder }) => !DEVICE_FOLDERS.includes(folder))
    .flatMap(({ path, text }) =>
      [...text.matchAll(/.*(?:device|kind)\b.*(?:===|!==) "(?:gpu|cpu)".*/g)].map(([line]) => `${path}: ${line.trim()}`),
    );
  assert.deepEqual(branches, []);
});
