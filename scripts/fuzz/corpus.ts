import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ParserName } from "./target.js";

/** Returns the folder of a parser's seeds, relative to the working directory, which must be the repository's root. */
export function seedFolder(parser: ParserName): string {
  return resolve("scripts/fuzz/corpus", parser);
}

/** Returns the output folder: NEXTVLAD_FUZZ_FOLDER, or `fuzz/`, which git ignores. Child processes inherit it. */
const outFolder = (): string => resolve(process.env.NEXTVLAD_FUZZ_FOLDER ?? "fuzz");

/** Returns the folder where guided fuzzing saves inputs that reached new code paths; the next run starts from them. */
export function workFolder(parser: ParserName): string {
  return join(outFolder(), "corpus", parser);
}

/** Returns the folder of inputs that caused findings. */
export function findingsFolder(): string {
  return join(outFolder(), "findings");
}

/** Reads the files of a folder, sorted by name; returns an empty list if the folder does not exist. */
export function readInputs(folder: string): Uint8Array[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => readFileSync(join(folder, name)));
}

/** Saves an input under the hash of its content; returns its path. */
export function saveInput(folder: string, prefix: string, bytes: Uint8Array): string {
  const path = join(folder, prefix + createHash("sha256").update(bytes).digest("hex").slice(0, 16));
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, bytes);
  return path;
}
