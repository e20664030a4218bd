import { open, readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { expandGlob, isGlob } from "./glob.js";

/** MARK, LIST or DICT, and PUT with its number: protocol 0. */
const PICKLED_TEXT = /^\([ld]p\d+\n/;

/** How many missing files an error names one by one. */
const NAMED_FILES = 20;

/** The shards of a list that are there, and what is wrong with the others. */
export interface FoundShards {
  readonly shards: string[];
  readonly problem: NextvladError | null;
}

/**
 * The shards that `list` names, as absolute paths, each once: the lines of a file list, the matches of a glob (`train*.tfrecord`), or the one shard that it is.
 * In a list, blank lines and `#` comments are skipped; a relative path is looked for from `cwd`, then from the list's own folder.
 * Throws FILE_MISSING (all missing files in one error), FILE_UNREADABLE, BAD_FILE_LIST (no shard in it, or a directory).
 */
export async function resolveShards(list: string, { cwd }: { readonly cwd: string }): Promise<string[]> {
  const { shards, problem } = await findShards(list, { cwd });
  if (problem !== null) throw problem;
  return shards;
}

/** What `resolveShards` gives; where files of the list are missing, those that are there, and what it would throw. Throws the rest of what it throws. */
export async function findShards(list: string, { cwd }: { readonly cwd: string }): Promise<FoundShards> {
  const path = resolve(cwd, list);
  const kind = await kindOf(path);
  if (kind === "missing" && isGlob(list)) {
    const matches = await expandGlob(list, cwd);
    if (matches.length > 0) return { shards: matches, problem: null };
    throw new NextvladError("BAD_FILE_LIST", "no file matches the pattern", {
      file: list,
      remedy: `check it; it was looked for from ${cwd}`,
    });
  }
  if (kind === "directory") {
    const remedy = `name a file list, or the shards themselves by a pattern such as ${list.replace(/\/+$/, "")}/*.tfrecord`;
    throw new NextvladError("BAD_FILE_LIST", "this is a directory, not a file list", { file: list, remedy });
  }
  try {
    if (path.endsWith(".tfrecord") || !(await isText(path))) return { shards: [path], problem: null };
    return await resolveLines(await readFile(path, "utf8"), list, cwd);
  } catch (error) {
    throw fileError(error, list, "read");
  }
}

async function resolveLines(text: string, list: string, cwd: string): Promise<FoundShards> {
  const lines = text
    .replace(/^\uFEFF/, "")
    .split(/\r\n|\r|\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  if (lines.length === 0) {
    throw new NextvladError("BAD_FILE_LIST", "the list names no shard", { file: list, remedy: "write one path a line" });
  }
  const folders = [cwd, dirname(resolve(cwd, list))];
  const found = await Promise.all([...new Set(lines)].map((line) => locate(line, folders)));
  const directory = found.find(({ kind }) => kind === "directory");
  if (directory !== undefined) {
    throw new NextvladError("BAD_FILE_LIST", `the list names a directory: ${directory.path}`, {
      file: list,
      remedy: "write the path of each shard in it on a line of its own",
    });
  }
  const missing = found.filter(({ kind }) => kind === "missing").map(({ line }) => line);
  const there = found.filter(({ kind }) => kind !== "missing").map(({ path }) => path);
  return { shards: [...new Set(there)], problem: missing.length === 0 ? null : missingFiles(missing, found.length, list, folders) };
}

/** Where a line's file is: in the first folder that has it. */
async function locate(line: string, folders: readonly string[]): Promise<{ line: string; path: string; kind: Kind }> {
  for (const folder of folders) {
    const path = resolve(folder, line);
    const kind = await kindOf(path);
    if (kind !== "missing") return { line, path, kind };
  }
  return { line, path: line, kind: "missing" };
}

function missingFiles(missing: readonly string[], total: number, list: string, folders: readonly string[]): NextvladError {
  const named = missing.slice(0, NAMED_FILES).join(", ");
  const more = missing.length > NAMED_FILES ? ` and ${missing.length - NAMED_FILES} more` : "";
  return new NextvladError("FILE_MISSING", `${missing.length} of the list's ${total} files cannot be found: ${named}${more}`, {
    file: list,
    remedy: `check the paths; relative ones are looked for from ${[...new Set(folders)].join(", then from ")}`,
  });
}

type Kind = "file" | "directory" | "missing";

/** What stands at a path. What can't be looked at counts as a file: reading it will say why. */
async function kindOf(path: string): Promise<Kind> {
  try {
    return (await stat(path)).isDirectory() ? "directory" : "file";
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code;
    return errno === "ENOENT" || errno === "ENOTDIR" ? "missing" : "file";
  }
}

/**
 * A list is text and a shard is not: a record's length has zero bytes in it, and what is compressed or pickled has other control characters. But
 * Python's oldest pickles are text, which begins as no path does.
 */
async function isText(path: string): Promise<boolean> {
  const handle = await open(path, "r");
  try {
    const head = new Uint8Array(512);
    const { bytesRead } = await handle.read(head, 0, head.length, 0);
    if (PICKLED_TEXT.test(Buffer.from(head.buffer, 0, bytesRead).toString("latin1"))) return false;
    return head.subarray(0, bytesRead).every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d);
  } finally {
    await handle.close();
  }
}
