import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ParserName } from "./target.js";

/** Returns the directory of a parser's seeds, relative to the working directory, which must be the repository's root. */
export function seedDirectory(parser: ParserName): string {
  return resolve("scripts/fuzz/corpus", parser);
}

/** Returns the output directory: NEXTVLAD_FUZZ_FOLDER, or `fuzz/`, which git ignores. Child processes inherit it. */
const outDirectory = (): string => resolve(process.env.NEXTVLAD_FUZZ_FOLDER ?? "fuzz");

/** Returns the directory where guided fuzzing saves inputs that reached new code paths; the next run starts from them. */
export function workDirectory(parser: ParserName): string {
  return join(outDirectory(), "corpus", parser);
}

/** Returns the directory of inputs that caused findings. */
export function findingsDirectory(): string {
  return join(outDirectory(), "findings");
}

/** Reads the files of a directory, sorted by name; returns an empty list if the directory does not exist. */
export function readInputs(directory: string): Uint8Array[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .sort()
    .map((name) => readFileSync(join(directory, name)));
}

/** Saves an input under the hash of its content; returns its path. */
export function saveInput(directory: string, prefix: string, bytes: Uint8Array): string {
  const path = join(directory, prefix + createHash("sha256").update(bytes).digest("hex").slice(0, 16));
  mkdirSync(directory, { recursive: true });
  writeFileSync(path, bytes);
  return path;
}
