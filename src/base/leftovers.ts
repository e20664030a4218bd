import { readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fitName } from "./files.js";
import { startTimeMs } from "./processes.js";

/** Temporary names of `files.ts`. Those of earlier versions have no random part. */
const LEFTOVER = /^\.(.+)\.(unfinished|removed)-(\d+)(?:-[0-9a-f]{12})?(-old)?$/;
/** Process start times are accurate to about a second. */
const MARGIN_MS = 2000;

/**
 * Removes temporary files and directories that `files.ts` left in a folder when its process was killed, and returns their names. `of` limits this to
 * those of the named files and directories.
 * If the process was killed between the two renames that replace a directory, the new directory, which is complete, is renamed to its final name.
 * Keeps those of running processes. Never throws: what cannot be removed stays.
 */
export async function sweepLeftovers(folder: string, of?: ReadonlySet<string>): Promise<readonly string[]> {
  const names: readonly string[] = await readdir(folder).catch(() => []);
  const swept: string[] = [];
  const targets = of === undefined ? null : new Set(Array.from(of, fitName));
  // Names that end in `-old` come last: if both exist, the new directory is renamed to the target.
  for (const name of names.toSorted((a, b) => a.length - b.length)) {
    const [, target, kind, pid, old] = LEFTOVER.exec(name) ?? [];
    if (target === undefined || targets?.has(target) === false || (await isBeingWritten(join(folder, name), Number(pid)))) continue;
    const isReplacement = kind === "unfinished" && (old !== undefined || names.includes(`${name}-old`));
    const finished = isReplacement && (await finishRename(join(folder, name), join(folder, target)));
    if (!finished) await rm(join(folder, name), { recursive: true, force: true }).catch(() => undefined);
    swept.push(name);
  }
  return swept;
}

/** The process ID may have been reused: such a process is younger than the leftover. This process itself sweeps before it writes. */
async function isBeingWritten(path: string, pid: number): Promise<boolean> {
  if (pid === process.pid) return false;
  const startMs = startTimeMs(pid);
  if (startMs === null) return false;
  const there = await stat(path).catch(() => null);
  return there !== null && startMs < there.mtimeMs + MARGIN_MS;
}

async function finishRename(from: string, to: string): Promise<boolean> {
  const there = await stat(to).catch(() => null);
  if (there !== null) return false;
  return rename(from, to).then(
    () => true,
    () => false,
  );
}
