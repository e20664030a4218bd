import { randomBytes } from "node:crypto";
import { createReadStream, constants as FLAGS, write as fsWrite, type Stats } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, readlink, realpath, rename, rm, stat, statfs } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileError, NextvladError } from "./errors.js";
import { startTimeMs } from "./processes.js";
import { reportedWait } from "./waiting.js";

/** `open` flags that create a new file; `open` fails if the name exists, even as a symbolic link. */
export const CREATE_NEW = FLAGS.O_WRONLY | FLAGS.O_CREAT | FLAGS.O_EXCL | FLAGS.O_NOFOLLOW;

const MAX_LINKS = 40;

/**
 * Returns a hidden temporary name next to `path`, for a file or directory that is being written or removed. Its random part makes it unpredictable, and
 * distinct in two containers with equal process IDs. `removeLeftovers` recognizes it.
 */
export function temporaryName(path: string, kind: "unfinished" | "removed"): string {
  return join(dirname(path), `.${fitName(basename(path))}.${kind}-${process.pid}-${randomBytes(6).toString("hex")}`);
}

/** Truncates a name so that a temporary name made from it fits: file systems allow 255 bytes, and up to 40 are added. */
export function fitName(name: string): string {
  let length = Math.min(name.length, 215);
  while (Buffer.byteLength(name.slice(0, length)) > 215) length--;
  return name.slice(0, length).replace(/[\uD800-\uDBFF]$/, "");
}

/** Returns the free bytes of a folder's file system; null if it reports no size or the directory does not exist. */
export async function freeBytes(folder: string): Promise<number | null> {
  const disk = await statfs(folder).catch(() => null);
  return disk === null || disk.blocks === 0 ? null : disk.bavail * disk.bsize;
}

/**
 * Throws FILE_UNWRITABLE if the disk has too little space for a large write. Passes if the file system reports no size.
 * Other processes write too, so the write itself may still fail.
 */
export async function requireFreeSpace(folder: string, bytes: number): Promise<void> {
  const free = await freeBytes(folder);
  if (free === null || free >= bytes) return;
  const [expected, found] = [bytes, free].map((size) => `${(size / 1e6).toFixed(1)} MB`) as [string, string];
  const remedy = "free disk space there, or use another path";
  throw new NextvladError("FILE_UNWRITABLE", "cannot write: not enough free space", { file: folder, expected, found, remedy });
}

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

function notReplaceable(path: string, found: Stats, expected: "a regular file" | "a directory"): NextvladError {
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
export async function refuseForeignFile(
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
async function resolveOutputDirectory(path: string): Promise<string> {
  const found = await statIfThere(path);
  if (found !== null && !found.isDirectory()) throw notReplaceable(path, found, "a directory");
  return followLinks(path);
}

/** Flushes a directory's entries to the disk, so that a rename in it survives a power failure. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Renames a complete, flushed file to its final name, and flushes the folder. Throws FILE_UNWRITABLE, also if `to` exists and is not a regular file. */
export async function moveFile(from: string, to: string): Promise<void> {
  try {
    const target = await resolveOutputFile(to);
    await rename(from, target).catch(async (error: NodeJS.ErrnoException) => {
      // `to` may be a link to another file system.
      if (error.code !== "EXDEV") throw error;
      await writeFileAtomic(target, createReadStream(from));
      await rm(from);
    });
    await syncDirectory(dirname(target));
  } catch (error) {
    throw fileError(error, to, "write");
  }
}

/**
 * Creates a folder and its missing parents so that they survive a power failure. Node's own recursive mkdir never returns if a parent accepts no folder
 * (/proc/x, Node 20 and 24). Throws the file system's error.
 */
export async function makeFolder(path: string): Promise<void> {
  const there = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    // For example, the path is too long: none of its folders is created.
    throw error;
  });
  if (there?.isDirectory()) return;
  if (there !== null) throw Object.assign(new Error(`${path} is not a directory`), { code: "ENOTDIR" });
  // Not resolved against the current folder, whose path may not be UTF-8.
  const above = dirname(path);
  if (above !== path) await makeFolder(above);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
  await syncDirectory(above).catch((error: NodeJS.ErrnoException) => {
    // The parent may be writable but not readable; then it cannot be flushed.
    if (error.code !== "EACCES") throw error;
  });
}

/** A file's content: as a whole, or in pieces that need not be in memory at the same time. */
export type Content = string | Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

async function writeContent(handle: FileHandle, content: Content): Promise<void> {
  if (typeof content === "string" || content instanceof Uint8Array) await handle.writeFile(content);
  else for await (const piece of content) await writeFully(handle, piece);
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) done += (await handle.write(bytes, done)).bytesWritten;
}

async function writeAndSync(path: string, content: Content): Promise<void> {
  const handle = await open(path, CREATE_NEW);
  try {
    await writeContent(handle, content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * A file that is written piece by piece under a temporary name next to its path, until `commit` flushes and renames it or `discard` removes it. A reader sees
 * either the complete old file or the complete new one. It replaces what `resolveOutputFile` allows. All methods but `discard` throw FILE_UNWRITABLE; the
 * file is then already discarded.
 */
export class AtomicFile {
  readonly path: string;
  readonly #unfinished: string;
  readonly #handle: FileHandle;

  private constructor(path: string, unfinished: string, handle: FileHandle) {
    this.path = path;
    this.#unfinished = unfinished;
    this.#handle = handle;
  }

  static async open(path: string): Promise<AtomicFile> {
    try {
      const target = await resolveOutputFile(path);
      await makeFolder(dirname(target));
      const unfinished = temporaryName(target, "unfinished");
      return new AtomicFile(path, unfinished, await open(unfinished, CREATE_NEW));
    } catch (error) {
      throw fileError(error, path, "write");
    }
  }

  /** Resolves once the operating system has accepted the bytes, so a caller that awaits it gets back-pressure. One write at a time. */
  write(content: Content): Promise<void> {
    return this.#orDiscard(() => writeContent(this.#handle, content));
  }

  commit(): Promise<void> {
    return this.#orDiscard(async () => {
      await this.#handle.sync();
      await this.#handle.close();
      await moveFile(this.#unfinished, this.path);
    });
  }

  /** May be called at any time, also repeatedly. A committed file stays. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
    await rm(this.#unfinished, { force: true }).catch(() => undefined);
  }

  async #orDiscard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      await this.discard();
      throw fileError(error, this.path, "write");
    }
  }
}

/** Writes a whole file through `AtomicFile`. Throws FILE_UNWRITABLE, or a `NextvladError` that `content` throws. */
export async function writeFileAtomic(path: string, content: Content): Promise<void> {
  const file = await AtomicFile.open(path);
  await file.write(content);
  await file.commit();
}

/** Descriptors that are already open in this process, by the paths that refer to them. */
const STANDARD_DESCRIPTORS: ReadonlyMap<string, number> = new Map(
  [1, 2].flatMap((descriptor) => [
    [`/dev/fd/${descriptor}`, descriptor] as const,
    [`/proc/self/fd/${descriptor}`, descriptor] as const,
    [descriptor === 1 ? "/dev/stdout" : "/dev/stderr", descriptor] as const,
  ]),
);

/** Returns whether a path is written to directly: standard output or error, a pipe, or a character device such as a terminal. */
export async function isStream(path: string): Promise<boolean> {
  if (STANDARD_DESCRIPTORS.has(path)) return true;
  const found = await stat(path).catch(() => null);
  return found !== null && (found.isFIFO() || found.isCharacterDevice());
}

const POLL_MS = 5;

/** Writes to a path for which `isStream` is true. Waits for a pipe's reader; a wait is reported within a second. Throws FILE_UNWRITABLE. */
export async function writeStream(path: string, content: Content): Promise<void> {
  const standard = STANDARD_DESCRIPTORS.get(path);
  let handle: FileHandle | null = null;
  try {
    handle = standard === undefined ? await openStream(path) : null;
    const descriptor = handle?.fd ?? (standard as number);
    if (typeof content === "string") await writeToDescriptor(descriptor, Buffer.from(content, "utf8"));
    else if (content instanceof Uint8Array) await writeToDescriptor(descriptor, content);
    else for await (const piece of content) await writeToDescriptor(descriptor, piece);
  } catch (error) {
    throw fileError(error, path, "write");
  } finally {
    await handle?.close();
  }
}

/** Polls with O_NONBLOCK: a blocking `open` would wait for a reader, and could not be interrupted. */
async function openStream(path: string): Promise<FileHandle> {
  let isAbandoned = false;
  const poll = async (): Promise<FileHandle> => {
    for (;;) {
      const handle = await open(path, FLAGS.O_WRONLY | FLAGS.O_NONBLOCK | FLAGS.O_NOCTTY).catch(async (error: NodeJS.ErrnoException) => {
        if (isAbandoned || error.code !== "ENXIO" || !(await stat(path)).isFIFO()) throw error;
        return null;
      });
      if (handle !== null) return handle;
      await sleep(POLL_MS);
    }
  };
  try {
    return await reportedWait(`a reader of the pipe ${path}`, poll(), 0);
  } finally {
    isAbandoned = true;
  }
}

async function writeToDescriptor(descriptor: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const written = await new Promise<number>((resolve, reject) => {
      fsWrite(descriptor, bytes, done, bytes.length - done, null, (error, count) => {
        if (error === null) resolve(count);
        else if (error.code === "EAGAIN") resolve(0);
        else reject(error);
      });
    });
    if (written === 0) await sleep(POLL_MS);
    done += written;
  }
}

/**
 * Writes files, one after another, to a directory under a temporary name next to `path`, flushes them, then renames the directory to `path`, replacing an
 * existing directory. `addMore` may put further files, already flushed, into the directory that it receives. Throws FILE_UNWRITABLE; the old directory stays
 * intact until the new one is complete.
 */
export async function writeDirectoryAtomic(
  path: string,
  files: Iterable<readonly [name: string, content: Content]> | AsyncIterable<readonly [name: string, content: Content]>,
  addMore: (unfinished: string) => Promise<void> = async () => {},
): Promise<void> {
  let made: string | null = null;
  try {
    const target = await resolveOutputDirectory(path);
    await makeFolder(dirname(target));
    const unfinished = temporaryName(target, "unfinished");
    await mkdir(unfinished);
    made = unfinished;
    for await (const [name, content] of files) await writeAndSync(join(unfinished, name), content);
    await addMore(unfinished);
    await syncDirectory(unfinished);
    await replaceDirectory(unfinished, await resolveOutputDirectory(path));
    await syncDirectory(dirname(target));
  } catch (error) {
    if (made !== null) await rm(made, { recursive: true, force: true }).catch(() => undefined);
    throw fileError(error, path, "write");
  }
}

/** A rename cannot replace a non-empty directory, so the old one is renamed first and removed last. */
async function replaceDirectory(from: string, to: string): Promise<void> {
  const aside = `${from}-old`;
  await rename(to, aside).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await rename(from, to).catch(async (error: unknown) => {
    await rename(aside, to).catch(() => undefined);
    throw error;
  });
  await rm(aside, { recursive: true, force: true });
}

/** Removes a directory, or a link to one. It is renamed first, so that no process sees a part of it under its name. Throws FILE_UNWRITABLE. */
export async function removeDirectory(path: string): Promise<void> {
  const aside = temporaryName(path, "removed");
  try {
    const found = await stat(path).catch(() => lstat(path));
    if (!found.isDirectory() && !found.isSymbolicLink()) throw notReplaceable(path, found, "a directory");
    await rename(path, aside);
    await rm(aside, { recursive: true, force: true });
  } catch (error) {
    throw fileError(error, path, "write");
  }
}

/** Matches temporary names. Those of earlier versions have no random part. */
const LEFTOVER = /^\.(.+)\.(unfinished|removed)-(\d+)(?:-[0-9a-f]{12})?(-old)?$/;
/** Process start times are accurate to about a second. */
const MARGIN_MS = 2000;

/**
 * Removes temporary files and directories that killed processes left in a folder, and returns their names. `of` limits this to those of the named files and
 * directories.
 * If the process was killed between the two renames that replace a directory, the new directory, which is complete, is renamed to its final name.
 * Keeps those of running processes. Never throws: what cannot be removed stays.
 */
export async function removeLeftovers(folder: string, of?: ReadonlySet<string>): Promise<readonly string[]> {
  const names: readonly string[] = await readdir(folder).catch(() => []);
  const removed: string[] = [];
  const targets = of === undefined ? null : new Set(Array.from(of, fitName));
  // Names that end in `-old` come last: if both exist, the new directory is renamed to the target.
  for (const name of names.toSorted((a, b) => a.length - b.length)) {
    const [, target, kind, pid, old] = LEFTOVER.exec(name) ?? [];
    if (target === undefined || targets?.has(target) === false || (await isBeingWritten(join(folder, name), Number(pid)))) continue;
    const isReplacement = kind === "unfinished" && (old !== undefined || names.includes(`${name}-old`));
    const finished = isReplacement && (await finishRename(join(folder, name), join(folder, target)));
    if (!finished) await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
    removed.push(name);
  }
  return removed;
}

/** The process ID may have been reused: such a process is younger than the leftover. This process removes leftovers before it writes. */
async function isBeingWritten(path: string, pid: number): Promise<boolean> {
  if (pid === process.pid) return false;
  const startMs = startTimeMs(pid);
  if (startMs === null) return false;
  const found = await stat(path).catch(() => null);
  return found !== null && startMs < found.mtimeMs + MARGIN_MS;
}

async function finishRename(from: string, to: string): Promise<boolean> {
  const found = await stat(to).catch(() => null);
  if (found !== null) return false;
  return rename(from, to).then(
    () => true,
    () => false,
  );
}
