import { isUtf8 } from "node:buffer";
import type { Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { escapeBytes, isUnicode, unescapeBytes } from "../base/byte-text.js";
import { fileError, NextvladError } from "../base/errors.js";
import { openInput, readFully, readInput, readOnce, readStream } from "../base/input.js";
import { expandHome, URL_PROBLEM, urlRemedy } from "../base/paths.js";
import { joinErrors, listFirst } from "../base/problem-list.js";
import { showPath, showText } from "../base/shown-value.js";
import { reportedWait } from "../base/waiting.js";
import { expandGlob, isGlob } from "./glob.js";
import { type Shard, shardAt } from "./shard.js";

/** Start of a pickled list or dict of protocol 0: MARK, LIST or DICT, and PUT with its number. */
const PICKLED_TEXT = /^\([ld]p\d+\n/;

/** Maximum size of a list from a pipe, which is held in memory. Longer content is not a list. */
const MAX_LIST_BYTES = 1 << 28;

/** Names shards: a file that lists them, a glob, a shard, or several of these, such as the result of a glob that the shell expanded. */
export type FileList = string | readonly string[];

/** Returns the name of a list for messages. */
export function describeFileList(list: FileList): string {
  if (typeof list === "string") return list;
  const [first = "", ...others] = list;
  return others.length === 0 ? first : `${first} and ${others.length} more`;
}

/** A shard that a list names more than once. */
export interface RepeatedShard {
  readonly path: string;
  readonly times: number;
}

/** The shards of a list that exist, the error for those that are missing, and the shards that the list names more than once. */
export interface FoundShards {
  readonly shards: readonly Shard[];
  readonly repeated: readonly RepeatedShard[];
  readonly problem: NextvladError | null;
  /** Warnings about what patterns skipped. */
  readonly warnings: readonly string[];
}

/**
 * Returns the shards that `list` names, with absolute paths: the lines of a file list, the matches of a glob (`train*.tfrecord`, each file once), or a single
 * shard. The list may come from a pipe: `-` is standard input, and a path may be a FIFO, such as `<(ls *.tfrecord)`. A pipe can be read only once.
 * A shard is returned as often as the list names it. Blank lines and `#` comments are skipped. A `~` at the start of a line is the home directory. Relative
 * paths are resolved from `cwd`, then from the list's own directory.
 * Throws FILE_MISSING (one error for all missing files), FILE_UNREADABLE, and BAD_FILE_LIST if there is no shard in the list, it is or names a directory, it
 * names a URL or a path that is not UTF-8, or it is a pipe whose content is not text.
 */
export async function resolveShards(list: FileList, { cwd }: { readonly cwd: string }): Promise<readonly Shard[]> {
  const { shards, problem } = await findShards(list, { cwd });
  if (problem !== null) throw problem;
  return shards;
}

/** Like `resolveShards`, but also returns the repeated shards, and returns the error for missing files instead of throwing it. Throws all other errors. */
export async function findShards(list: FileList, { cwd }: { readonly cwd: string }): Promise<FoundShards> {
  if (typeof list === "string") return findListed(list, cwd);
  const parts = await Promise.all(list.map((part) => findListed(part, cwd)));
  const shards = parts.flatMap((part) => part.shards);
  const problems = parts.flatMap(({ problem }) => (problem === null ? [] : [problem]));
  const problem = problems.length === 0 ? null : joinErrors(problems, "FILE_MISSING", (count) => `${count} lists contain missing files`);
  return { shards, repeated: findRepeated(shards), problem, warnings: parts.flatMap(({ warnings }) => warnings) };
}

async function findListed(list: string, cwd: string): Promise<FoundShards> {
  const path = resolve(cwd, list);
  const found = isStandardInput(list) ? null : await reportedWait(list, examine(path));
  const kind = found === null ? "pipe" : found.kind;
  if (kind === "missing" && isGlob(list)) return matchPattern(list, cwd);
  if (kind === "directory") {
    const remedy = `pass a file list, or a pattern for the shards such as ${list.replace(/\/+$/, "")}/*.tfrecord`;
    throw new NextvladError("BAD_FILE_LIST", "this is a directory, not a file list", { file: list, remedy });
  }
  try {
    if (kind === "pipe" && !path.endsWith(".tfrecord")) return await resolveLines(await readPipe(list, path), list, [cwd]);
    if (path.endsWith(".tfrecord") || !(await isText(path, list))) {
      return { shards: [shardAt(path, found?.stats ?? null)], repeated: [], problem: null, warnings: [] };
    }
    return await resolveLines(await readInput(path, list), list, [cwd, dirname(path)]);
  } catch (error) {
    throw fileError(error, list, "read");
  }
}

async function matchPattern(pattern: string, cwd: string): Promise<FoundShards> {
  const { files, duplicates, unreadable } = await expandGlob(pattern, cwd);
  const skipped = `${unreadable.length === 1 ? "a directory" : `${unreadable.length} directories`} cannot be read: ${listFirst(unreadable)}`;
  if (files.length === 0) {
    const what = unreadable.length === 0 ? "no file matches the pattern" : `no file matches the pattern, and ${skipped}`;
    throw new NextvladError("BAD_FILE_LIST", what, { file: pattern, remedy: `check it; it was resolved from ${cwd}` });
  }
  const warnings = unreadable.length === 0 ? [] : [`${pattern}: ${skipped}; shards there are not matched`];
  if (duplicates > 0) {
    const what = duplicates === 1 ? "1 duplicate" : `${duplicates} duplicates`;
    warnings.push(`${pattern}: dropped ${what} reached through links (files and directories); each shard is read once`);
  }
  return { shards: files.map(({ path, stats }) => shardAt(path, stats)), repeated: [], problem: null, warnings };
}

/** Returns a warning about the `repeated` shards, which a list names more than once; null if `repeated` is empty. */
export function describeRepeated(list: FileList, repeated: readonly RepeatedShard[]): string | null {
  if (repeated.length === 0) return null;
  const named = listFirst(repeated.map(({ path, times }) => `${path} ${times} times`));
  const what = repeated.length === 1 ? "a shard" : `${repeated.length} shards`;
  return `${describeFileList(list)} lists ${what} more than once: ${named}`;
}

/** Whether two lists are the same shell pipe, which can be read only once. */
export function isSamePipe(list: FileList, other: FileList): boolean {
  if (typeof list !== "string" || typeof other !== "string") return false;
  return (isStandardInput(list) && isStandardInput(other)) || (list === other && isShellPipe(list));
}

function isStandardInput(list: string): boolean {
  return list === "-" || /^\/(dev\/stdin|dev\/fd\/0|proc\/self\/fd\/0)$/.test(list);
}

/** Whether a list comes from a shell pipe, which a later command cannot read again. */
export function isShellPipe(list: string): boolean {
  return isStandardInput(list) || /^\/(dev|proc\/(self|\d+))\/fd\/\d+$/.test(list);
}

async function readPipe(list: string, path: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const piece of isStandardInput(list) ? readStream(process.stdin, "standard input") : readOnce(path)) {
    const bytes = Buffer.from(piece);
    length += bytes.length;
    if (!bytes.every(isTextByte) || length > MAX_LIST_BYTES) {
      throw new NextvladError("BAD_FILE_LIST", "the pipe's content is not a list of shards", {
        file: list,
        expected: `text of at most ${MAX_LIST_BYTES} bytes`,
        found: length > MAX_LIST_BYTES ? "more" : "binary data",
        remedy: "write one path per line; shards themselves can only be read from files",
      });
    }
    chunks.push(bytes);
  }
  return Buffer.concat(chunks, length);
}

/** First line of a list in which `\xHH` is the byte HH of a name. Written only if a name needs it. */
const ESCAPED_LIST = "# nextvlad: \\xHH is the byte HH";

/** Formats names as a file list that `findShards` reads back to the same names. */
export function formatFileList(names: readonly string[]): string {
  const isPlain = names.every((name) => isUnicode(name) && name === escapeName(name));
  const lines = isPlain ? names : [ESCAPED_LIST, ...names.map((name) => escapeName(escapeBytes(name)))];
  return lines.map((line) => `${line}\n`).join("");
}

/** Escapes characters that a list's parser would misinterpret: control characters, a leading `#`, leading and trailing white space. */
function escapeName(name: string): string {
  const toHex = (text: string): string =>
    Array.from(Buffer.from(text, "utf8"), (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
  return name.replace(/^#|^\s+|\s+$|\p{Cc}/gu, (text) => toHex(text));
}

/** Returns the paths that a list names. Throws BAD_FILE_LIST if a path is not UTF-8. */
function parseLines(bytes: Buffer, list: string): string[] {
  const text = bytes.toString("utf8").replace(/^\uFEFF/, "");
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim());
  const isEscaped = lines[0] === ESCAPED_LIST;
  const paths = lines.filter((line) => line !== "" && !line.startsWith("#")).map((line) => (isEscaped ? unescapeBytes(line) : line));
  const lossy = isUtf8(bytes) ? paths.find((path) => !isUnicode(path)) : paths.find((path) => path.includes("\uFFFD"));
  if (lossy === undefined) return paths;
  const remedy = "rename the file, or save the list as UTF-8";
  throw new NextvladError("BAD_FILE_LIST", "the list contains a path that is not UTF-8", { file: list, found: escapeBytes(lossy), remedy });
}

async function resolveLines(bytes: Buffer, list: string, directories: readonly string[]): Promise<FoundShards> {
  const lines = parseLines(bytes, list);
  if (lines.length === 0) {
    throw new NextvladError("BAD_FILE_LIST", "the list contains no shards", { file: list, remedy: "write one path per line" });
  }
  const unique = [...new Set(lines)];
  for (const line of unique) {
    const remedy = urlRemedy(line);
    if (remedy !== null) throw new NextvladError("BAD_FILE_LIST", URL_PROBLEM, { file: list, found: showText(line), remedy });
  }
  const found = await locateAll(unique, directories);
  const located = new Map(found.map((each) => [each.line, each]));
  const directory = found.find(({ kind }) => kind === "directory");
  if (directory !== undefined) {
    throw new NextvladError("BAD_FILE_LIST", `the list contains a directory: ${directory.path}`, {
      file: list,
      remedy: "write the path of each shard on its own line",
    });
  }
  const missing = found.filter(({ kind }) => kind === "missing").map(({ line }) => line);
  const shards = lines.flatMap((line) => {
    const { kind, path, stats } = located.get(line) as Located;
    return kind === "missing" ? [] : [shardAt(path, stats)];
  });
  const problem = missing.length === 0 ? null : missingFiles(missing, found.length, list, directories);
  return { shards, repeated: findRepeated(shards), problem, warnings: [] };
}

function findRepeated(shards: readonly Shard[]): RepeatedShard[] {
  const counts = new Map<string, number>();
  for (const { path } of shards) counts.set(path, (counts.get(path) ?? 0) + 1);
  return Array.from(counts, ([path, times]) => ({ path, times })).filter(({ times }) => times > 1);
}

interface Located extends Examined {
  readonly line: string;
  readonly path: string;
}

/** Maximum number of paths examined concurrently: each pending call takes some kilobytes. */
const LOCATED_AT_A_TIME = 256;

async function locateAll(lines: readonly string[], directories: readonly string[]): Promise<readonly Located[]> {
  const found: Located[] = [];
  for (let start = 0; start < lines.length; start += LOCATED_AT_A_TIME) {
    found.push(...(await Promise.all(lines.slice(start, start + LOCATED_AT_A_TIME).map((line) => locate(line, directories)))));
  }
  return found;
}

/** Locates a line's file in the first directory that contains it. */
async function locate(line: string, directories: readonly string[]): Promise<Located> {
  for (const directory of directories) {
    const path = resolve(directory, expandHome(line));
    const found = await examine(path);
    if (found.kind !== "missing") return { line, path, ...found };
  }
  return { line, path: line, kind: "missing", stats: null };
}

function missingFiles(missing: readonly string[], total: number, list: string, directories: readonly string[]): NextvladError {
  return new NextvladError(
    "FILE_MISSING",
    `${missing.length} of the list's ${total} files not found: ${listFirst(missing.map(showPath))}`,
    {
      file: list,
      remedy: `check the paths; relative ones are resolved from ${[...new Set(directories)].join(", then from ")}`,
    },
  );
}

interface Examined {
  /** Devices, sockets and paths that cannot be examined count as files: opening them reports the error. */
  readonly kind: "file" | "pipe" | "directory" | "missing";
  /** Null if the path cannot be examined. */
  readonly stats: Stats | null;
}

async function examine(path: string): Promise<Examined> {
  try {
    const stats = await stat(path);
    if (stats.isDirectory()) return { kind: "directory", stats };
    return { kind: stats.isFIFO() ? "pipe" : "file", stats };
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).code;
    return { kind: errno === "ENOENT" || errno === "ENOTDIR" ? "missing" : "file", stats: null };
  }
}

/**
 * Whether a file is text (a list) and not binary (a shard). A record's length contains zero bytes, and compressed or pickled data contain other control
 * characters. Pickles of protocol 0 are text, but start as no path does.
 */
async function isText(path: string, list: string): Promise<boolean> {
  const handle = await openInput(path, list);
  try {
    const head = new Uint8Array(512);
    const length = await readFully(handle, head, 0);
    if (PICKLED_TEXT.test(Buffer.from(head.buffer, 0, length).toString("latin1"))) return false;
    return head.subarray(0, length).every(isTextByte);
  } finally {
    await handle.close();
  }
}

function isTextByte(byte: number): boolean {
  return byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d;
}
