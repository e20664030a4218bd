import type { Stats } from "node:fs";
import { readlink, realpath, stat, statfs } from "node:fs/promises";
import { dirname, isAbsolute } from "node:path";
import { fileError, NextvladError } from "./errors.js";

// Checks of outputs before they are written: free space, and what a path may replace.

/** Returns the free bytes of a directory's file system; null if it reports no size or the directory does not exist. */
export async function freeBytes(directory: string): Promise<number | null> {
  const disk = await statfs(directory).catch(() => null);
  return disk === null || disk.blocks === 0 ? null : disk.bavail * disk.bsize;
}

/**
 * Throws FILE_UNWRITABLE if the disk has too little space for a large write, with `what` and `remedy`. Passes if the file system reports no size.
 * Other processes write too, so the write itself may still fail.
 */
export async function requireFreeSpace(
  directory: string,
  bytes: number,
  { what = "cannot write: not enough free space", remedy = "free disk space there, or use another path" } = {},
): Promise<void> {
  const free = await freeBytes(directory);
  if (free === null || free >= bytes) return;
  const [expected, found] = [bytes, free].map((size) => `${(size / 1e6).toFixed(1)} MB`) as [string, string];
  throw new NextvladError("FILE_UNWRITABLE", what, { file: directory, expected, found, remedy });
}

const MAX_LINKS = 40;

/** Returns the kind of a file in words, such as "a pipe". */
export function describeKind(found: Stats): string {
  if (found.isFile()) return "a regular file";
  if (found.isDirectory()) return "a directory";
  if (found.isSymbolicLink()) return "a symbolic link";
  if (found.isFIFO()) return "a pipe";
  if (found.isSocket()) return "a socket";
  return found.isBlockDevice() ? "a block device" : "a character device";
}

/** `stat`, which follows links, but null if nothing exists at the path. */
async function statIfThere(path: string): Promise<Stats | null> {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return null;
    throw error;
  });
}

/** Returns the path at the end of a chain of symbolic links, whether or not it exists. */
async function followLinks(path: string, links = 0): Promise<string> {
  const target = await readlink(path).catch((error: NodeJS.ErrnoException) => {
    // Not a link, or nothing exists there.
    if (error.code === "EINVAL" || error.code === "ENOENT" || error.code === "ENOTDIR") return null;
    throw error;
  });
  if (target === null) return path;
  if (links === MAX_LINKS) throw Object.assign(new Error("too many symbolic links"), { code: "ELOOP" });
  // Not `join`: it would drop `a/..`, although `a` may be a link.
  return followLinks(isAbsolute(target) ? target : `${await realpath(dirname(path))}/${target}`, links + 1);
}

export function notReplaceable(path: string, found: Stats, expected: "a regular file" | "a directory"): NextvladError {
  const what = `cannot replace it: it is not ${expected}`;
  return new NextvladError("FILE_UNWRITABLE", what, { file: path, found: describeKind(found), remedy: "use another path" });
}

/**
 * Checks that an output file replaces a regular file or nothing. Returns the path to write, which is `path` with its links resolved.
 * Throws FILE_UNWRITABLE for anything else: a directory, device, pipe or socket.
 */
export async function resolveOutputFile(path: string): Promise<string> {
  try {
    const found = await statIfThere(path);
    if (found !== null && !found.isFile()) throw notReplaceable(path, found, "a regular file");
    return await followLinks(path);
  } catch (error) {
    throw fileError(error, path, "write");
  }
}

/**
 * Checks an output file before the work starts. Throws FILE_UNWRITABLE if the file exists, unless `overwrite` is set or `isOwn` recognizes it as an earlier
 * output of the same command; and what `resolveOutputFile` throws.
 */
export async function assertReplaceable(
  path: string,
  overwrite: boolean,
  isOwn: (file: string) => boolean | Promise<boolean> = () => false,
): Promise<void> {
  const target = await resolveOutputFile(path);
  if (overwrite || (await statIfThere(target)) === null || (await isOwn(target))) return;
  const remedy = "use another path, or replace it with --overwrite";
  throw new NextvladError("FILE_UNWRITABLE", "the file already exists", { file: path, remedy });
}

/** `resolveOutputFile` for a directory, which may replace a directory or nothing. Throws FILE_UNWRITABLE, or the file system's error. */
export async function resolveOutputDirectory(path: string): Promise<string> {
  const found = await statIfThere(path);
  if (found !== null && !found.isDirectory()) throw notReplaceable(path, found, "a directory");
  return followLinks(path);
}
