import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ParserName } from "./target.js";

/** The inputs that mutations start from: a parser's folder in the repository, from whose root all of this runs. */
export function seedFolder(parser: ParserName): string {
  return resolve("scripts/fuzz/corpus", parser);
}

/** Where runs leave what they find: `fuzz/`, which is not part of the repository, or NEXTVLAD_FUZZ_FOLDER. Child processes have the same. */
const outFolder = (): string => resolve(process.env.NEXTVLAD_FUZZ_FOLDER ?? "fuzz");

/** Where a run of the guided fuzzer leaves inputs that took new ways, for the next one to start from. */
export function workFolder(parser: ParserName): string {
  return join(outFolder(), "corpus", parser);
}

/** Where inputs go that something is wrong with. */
export function findingsFolder(): string {
  return join(outFolder(), "findings");
}

/** The files of a folder in the order of their names; none where there is no folder. */
export function readInputs(folder: string): Uint8Array[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => readFileSync(join(folder, name)));
}

/** Keeps an input under a name that its content makes; returns its path. */
export function saveInput(folder: string, prefix: string, bytes: Uint8Array): string {
  const path = join(folder, prefix + createHash("sha256").update(bytes).digest("hex").slice(0, 16));
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, bytes);
  return path;
}
