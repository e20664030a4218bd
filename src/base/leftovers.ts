import { randomBytes } from "node:crypto";
import { readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { startTimeMs } from "./processes.js";

// Temporary names, and the files under such names that killed processes left behind.

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

/** Matches temporary names. Those of earlier versions have no random part. */
const LEFTOVER = /^\.(.+)\.(unfinished|removed)-(\d+)(?:-[0-9a-f]{12})?(-old)?$/;
/** Process start times are accurate to about a second. */
const MARGIN_MS = 2000;

/**
 * Removes temporary files and directories that killed processes left in a directory, and returns their names. `of` limits this to those of the named files and
 * directories.
 * If the process was killed between the two renames that replace a directory, the new directory, which is complete, is renamed to its final name.
 * Keeps those of running processes. Never throws: what cannot be removed stays.
 */
export async function removeLeftovers(directory: string, of?: ReadonlySet<string>): Promise<readonly string[]> {
  const names: readonly string[] = await readdir(directory).catch(() => []);
  const removed: string[] = [];
  const targets = of === undefined ? null : new Set(Array.from(of, fitName));
  // Names that end in `-old` come last: if both exist, the new directory is renamed to the target.
  for (const name of names.toSorted((a, b) => a.length - b.length)) {
    const [, target, kind, pid, old] = LEFTOVER.exec(name) ?? [];
    if (target === undefined || targets?.has(target) === false || (await isBeingWritten(join(directory, name), Number(pid)))) continue;
    const isReplacement = kind === "unfinished" && (old !== undefined || names.includes(`${name}-old`));
    const finished = isReplacement && (await finishRename(join(directory, name), join(directory, target)));
    if (!finished) await rm(join(directory, name), { recursive: true, force: true }).catch(() => undefined);
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
