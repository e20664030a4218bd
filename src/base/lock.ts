import { createHash, randomBytes } from "node:crypto";
import { constants, copyFile, type FileHandle, link, lstat, open, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileError, NextvladError } from "./errors.js";
import { CREATE_NEW } from "./files.js";
import { temporaryName } from "./leftovers.js";
import { describeKind } from "./output-checks.js";
import { identifySelf, isRunning, type ProcessIdentity } from "./processes.js";
import { showText } from "./shown-value.js";

/** Name of the lock file in a directory; it identifies the process that holds the lock. */
export const LOCK_NAME = ".nextvlad.lock";

/** Interval of the holder's heartbeat, and the silence after which a holder on another machine is considered dead. */
const HEARTBEAT_MS = 20_000;
const DEAD_AFTER_MS = 180_000;

/** A lock on a directory, held by this process until `release`. */
export interface DirectoryLock {
  /** The lock file's content, which `confirmLock` compares. */
  readonly text: string;
  /** Describes a dead holder whose lock was replaced; null if there was none. */
  readonly staleHolder: string | null;
  /** Removes the lock file, unless another process has replaced it. */
  release(): Promise<void>;
}

/**
 * Locks a directory for this process. A holder on this machine is checked by process ID and start time; one on another machine or in another container is
 * considered dead after three minutes without a heartbeat. Throws SAVE_DIR_TAKEN if the directory is locked, FILE_UNWRITABLE (also if the lock is not a
 * regular file).
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = join(directory, LOCK_NAME);
  const text = `${JSON.stringify({ ...identifySelf(), since: new Date().toISOString(), key: randomBytes(8).toString("hex") })}\n`;
  // Written under a temporary name first, so that no process reads a partial lock. `removeLeftovers` removes such names.
  const own = temporaryName(path, "unfinished");
  try {
    await createFile(own, text);
    const staleHolder = await acquire(path, own);
    const timer = setInterval(() => void sendHeartbeat(path, text), HEARTBEAT_MS);
    timer.unref();
    const release = async (): Promise<void> => {
      clearInterval(timer);
      if ((await readLock(path).catch(() => null)) === text) await unlink(path).catch(() => undefined);
    };
    return { text, staleHolder, release };
  } catch (error) {
    throw fileError(error, directory, "write");
  } finally {
    await unlink(own).catch(() => undefined);
  }
}

/** Time between two attempts while another process replaces a stale lock. */
const RETRY_MS = 20;
const MAX_ATTEMPTS = 500;

/** Makes `own` the lock; removes locks of dead holders and tries again. Returns a description of the last such holder, or null. Throws SAVE_DIR_TAKEN. */
async function acquire(path: string, own: string): Promise<string | null> {
  let staleHolder: string | null = null;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    if (await tryCreate(own, path)) return staleHolder;
    const found = await readLock(path);
    if (found === null) continue;
    await rejectIfHeld(path, own, found);
    staleHolder = describeHolder(found);
    if (!(await removeStale(path, own, found))) await setTimeout(RETRY_MS);
  }
  throw lockedError(path, "another process");
}

/** Returns true if `own` is the lock now, false if there is a lock already. On file systems without hard links, `own` is copied. */
async function tryCreate(own: string, path: string): Promise<boolean> {
  const free = (): boolean => true;
  const occupied = (error: NodeJS.ErrnoException): boolean => {
    if (error.code === "EEXIST") return false;
    throw error;
  };
  return link(own, path)
    .catch((error: NodeJS.ErrnoException) =>
      error.code === "EEXIST" ? Promise.reject(error) : copyFile(own, path, constants.COPYFILE_EXCL),
    )
    .then(free, occupied);
}

/**
 * Removes the lock that was judged stale, unless another process has replaced it. The removal has a lock of its own, because a process may be suspended between
 * judging and removing, for as long as another one takes to acquire the lock. Returns false if another process is removing it.
 */
async function removeStale(path: string, own: string, judged: string): Promise<boolean> {
  const removal = `${path}.${createHash("sha256").update(judged).digest("hex").slice(0, 12)}`;
  try {
    await acquire(removal, own);
  } catch (error) {
    if (error instanceof NextvladError && error.code === "SAVE_DIR_TAKEN") return false;
    throw error;
  }
  if ((await readLock(path)) === judged) await unlink(path).catch(() => undefined);
  await unlink(removal).catch(() => undefined);
  return true;
}

/** Throws SAVE_DIR_TAKEN if the holder is running, or may be. */
async function rejectIfHeld(path: string, own: string, text: string): Promise<void> {
  const holder = parseHolder(text);
  if (holder === null) return;
  const running = isRunning(holder);
  if (running === false) return;
  if (running === true) throw lockedError(path, describeHolder(text));
  // The file system sets both times, so the clocks of two machines need not agree.
  const [there, here] = await Promise.all([stat(path).catch(() => null), stat(own)]);
  const silentMs = there === null ? DEAD_AFTER_MS : here.mtimeMs - there.mtimeMs;
  if (silentMs >= DEAD_AFTER_MS) return;
  const seconds = Math.max(0, Math.round(silentMs / 1000));
  throw lockedError(path, `${describeHolder(text)}; last heartbeat ${seconds} s ago (considered dead after ${DEAD_AFTER_MS / 1000} s)`);
}

function lockedError(path: string, holder: string): NextvladError {
  const remedy = "wait for it, stop it, or use another --save-dir";
  return new NextvladError("SAVE_DIR_TAKEN", `another run is writing to this directory: ${holder}`, { file: path, remedy });
}

/** Returns the holder's identity; null if the file is not a lock in this format, and so has no holder. */
function parseHolder(text: string): ProcessIdentity | null {
  try {
    const value = JSON.parse(text) as Partial<ProcessIdentity> | null;
    const { pid, host, boot, namespace, startTicks } = value ?? {};
    const known =
      [host, boot, namespace].every((part) => typeof part === "string") && Number.isInteger(pid) && Number.isInteger(startTicks);
    return known ? (value as ProcessIdentity) : null;
  } catch {
    return null;
  }
}

function describeHolder(text: string): string {
  const holder = parseHolder(text);
  if (holder === null) return "an unreadable lock";
  const { since = "an unknown time" } = holder as { since?: string };
  return `process ${holder.pid} on ${showText(holder.host)}, since ${showText(String(since))}`;
}

async function createFile(path: string, text: string): Promise<void> {
  const handle = await open(path, CREATE_NEW);
  await handle.writeFile(text).finally(() => handle.close());
}

/** Opens a lock without following a link and without blocking on a pipe. */
function openLock(path: string, access: number): Promise<FileHandle> {
  return open(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

/** Returns the lock's text; null if it is missing or cannot be read. Throws FILE_UNWRITABLE if it is not a regular file. */
async function readLock(path: string): Promise<string | null> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return null;
  if (!found.isFile()) {
    const remedy = "remove it, or use another directory";
    throw new NextvladError("FILE_UNWRITABLE", "the directory's lock is not a regular file", {
      file: path,
      found: describeKind(found),
      remedy,
    });
  }
  const handle = await openLock(path, constants.O_RDONLY).catch(() => null);
  return handle === null
    ? null
    : handle
        .readFile("utf8")
        .catch(() => null)
        .finally(() => handle.close());
}

/** Heartbeat: rewrites the lock in place, so that the file system sets its modification time; `utimes` would set this machine's time. */
async function sendHeartbeat(path: string, text: string): Promise<void> {
  const handle = await openLock(path, constants.O_RDWR).catch(() => null);
  // Read and written through one handle: the path may have been replaced by another process's lock.
  if (handle !== null && (await handle.readFile("utf8").catch(() => null)) === text) await handle.write(text, 0).catch(() => undefined);
  await handle?.close();
}

/**
 * Checks that the directory is still the one that was locked: not removed, not on another disk, not locked by another run.
 * Throws FILE_UNWRITABLE, SAVE_DIR_TAKEN.
 */
export async function confirmLock(directory: string, text: string): Promise<void> {
  const path = join(directory, LOCK_NAME);
  const there = await readLock(path);
  if (there === text) return;
  if (there !== null) throw lockedError(path, describeHolder(there));
  const what = "cannot write: the directory was removed or its disk unmounted since the run started";
  throw new NextvladError("FILE_UNWRITABLE", what, { file: directory, remedy: "mount the disk again, or use another --save-dir" });
}
