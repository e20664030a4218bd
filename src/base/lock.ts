import { randomBytes } from "node:crypto";
import { constants, copyFile, type FileHandle, link, lstat, open, rename, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fileError, NextvladError } from "./errors.js";
import { CREATE_NEW, describeKind, temporaryName } from "./files.js";
import { identifySelf, isRunning, type ProcessIdentity } from "./processes.js";
import { showText } from "./shown-value.js";

/** The file in a folder that says whose it is. */
export const LOCK_NAME = ".nextvlad.lock";

/** How often the holder shows that it lives, and how long another machine's holder may be silent before it is taken for gone. */
const SIGN_OF_LIFE_MS = 20_000;
const SILENCE_MS = 180_000;

/** A folder that is this process's own until it is released. */
export interface FolderLock {
  /** The lock file's content, by which its holder knows it: see `confirmLock`. */
  readonly text: string;
  /** What was found of a holder that is gone, in words; null where there was none. */
  readonly tookOver: string | null;
  /** Gives the folder back. A lock that is no longer this one's stays. */
  release(): Promise<void>;
}

/**
 * Takes a folder for this process alone. Whether a holder on this machine still runs is seen by its number and start time; one on another
 * machine is taken for gone after three minutes of silence. Throws SAVE_DIR_TAKEN where a holder lives, FILE_UNWRITABLE (also if the lock is not a regular file).
 */
export async function lockFolder(folder: string): Promise<FolderLock> {
  const path = join(folder, LOCK_NAME);
  const text = `${JSON.stringify({ ...identifySelf(), since: new Date().toISOString(), key: randomBytes(8).toString("hex") })}\n`;
  // Content first, name second: nobody ever reads a lock that is half written. The names are those that `sweepLeftovers` knows.
  const own = temporaryName(path, "unfinished");
  try {
    await createFile(own, text);
    const tookOver = await takeOver(path, own);
    const timer = setInterval(() => void showLife(path, text), SIGN_OF_LIFE_MS);
    timer.unref();
    const release = async (): Promise<void> => {
      clearInterval(timer);
      if ((await readLock(path).catch(() => null)) === text) await unlink(path).catch(() => undefined);
    };
    return { text, tookOver, release };
  } catch (error) {
    throw fileError(error, folder, "write");
  } finally {
    await unlink(own).catch(() => undefined);
  }
}

/** Puts `own` in the lock's place, once or, where holders that are gone left theirs, a few times; says whose lock went. */
async function takeOver(path: string, own: string): Promise<string | null> {
  let gone: string | null = null;
  for (let attempt = 0; attempt < 10; attempt++) {
    if (await place(own, path)) return gone;
    const there = await readLock(path);
    if (there === null) continue;
    await refuseLiving(path, own, there);
    gone = describeHolder(there);
    await removeStale(path, there);
  }
  throw taken(path, "someone else, who is quicker");
}

/** Whether the lock's place was free, and is `own`'s now. File systems without links get a copy. */
async function place(own: string, path: string): Promise<boolean> {
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

/** A rename gives the old lock to one process only; where what it got is no longer what it judged, it goes back. */
async function removeStale(path: string, judged: string): Promise<void> {
  const aside = temporaryName(path, "removed");
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!moved) return;
  if ((await readLock(aside)) !== judged) await link(aside, path).catch(() => undefined);
  await unlink(aside).catch(() => undefined);
}

/** Throws SAVE_DIR_TAKEN unless the holder is gone. */
async function refuseLiving(path: string, own: string, text: string): Promise<void> {
  const holder = parseHolder(text);
  if (holder === null) return;
  const running = isRunning(holder);
  if (running === false) return;
  if (running === true) throw taken(path, describeHolder(text));
  // Both times are the file system's own, so that no two clocks need agree.
  const [there, here] = await Promise.all([stat(path).catch(() => null), stat(own)]);
  const silentMs = there === null ? SILENCE_MS : here.mtimeMs - there.mtimeMs;
  if (silentMs >= SILENCE_MS) return;
  const seconds = Math.max(0, Math.round(silentMs / 1000));
  throw taken(path, `${describeHolder(text)}; it showed life ${seconds} s ago, and is taken for gone after ${SILENCE_MS / 1000} s`);
}

function taken(path: string, holder: string): NextvladError {
  const remedy = "wait for it, stop it, or use another --save-dir";
  return new NextvladError("SAVE_DIR_TAKEN", `another run writes to this folder: ${holder}`, { file: path, remedy });
}

/** The holder's identity; null for a file that is no lock of ours, and so holds nobody. */
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
  const { since = "some time" } = holder as { since?: string };
  return `process ${holder.pid} on ${showText(holder.host)}, since ${showText(String(since))}`;
}

async function createFile(path: string, text: string): Promise<void> {
  const handle = await open(path, CREATE_NEW);
  await handle.writeFile(text).finally(() => handle.close());
}

/** Opens a lock, but no link; a pipe does not block. */
function openLock(path: string, access: number): Promise<FileHandle> {
  return open(path, access | constants.O_NOFOLLOW | constants.O_NONBLOCK);
}

/** The lock's text; null if it is missing or cannot be read. Throws FILE_UNWRITABLE if it is not a regular file. */
async function readLock(path: string): Promise<string | null> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return null;
  if (!found.isFile()) {
    const remedy = "remove it, or choose another folder";
    throw new NextvladError("FILE_UNWRITABLE", "the folder's lock is not a regular file", {
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

/** Writes the lock over itself: that puts the file system's own time on it, where a time that is set would be this machine's. */
async function showLife(path: string, text: string): Promise<void> {
  const handle = await openLock(path, constants.O_RDWR).catch(() => null);
  // Through one handle: a lock that took this one's place meanwhile is another file.
  if (handle !== null && (await handle.readFile("utf8").catch(() => null)) === text) await handle.write(text, 0).catch(() => undefined);
  await handle?.close();
}

/**
 * Sees to it that the folder is still the one that was locked: not removed, not another disk's, not another run's.
 * Throws FILE_UNWRITABLE, SAVE_DIR_TAKEN.
 */
export async function confirmLock(folder: string, text: string): Promise<void> {
  const path = join(folder, LOCK_NAME);
  const there = await readLock(path);
  if (there === text) return;
  if (there !== null) throw taken(path, describeHolder(there));
  const what = "cannot write it: since the run began, this folder was removed, or its disk is no longer mounted";
  throw new NextvladError("FILE_UNWRITABLE", what, { file: folder, remedy: "mount it again, or go on in another --save-dir" });
}
