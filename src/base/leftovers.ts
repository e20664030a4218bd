import { readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fitName } from "./files.js";
import { startTimeMs } from "./processes.js";

/** The random part is missing in names of earlier versions. */
const LEFTOVER = /^\.(.+)\.(unfinished|removed)-(\d+)(?:-[0-9a-f]{12})?(-old)?$/;
/** Start times are known to a second or so. */
const MARGIN_MS = 2000;

/**
 * Clears a folder of what `files.ts` was writing or removing there (of the files and directories that `of` names, where it is given) when its
 * process was killed, and returns the names of what went.
 * Killed between the two renames that replace a directory, the new one, which is whole, is put in its place.
 * What a living process writes stays. Throws nothing: what cannot be removed stays too.
 */
export async function sweepLeftovers(folder: string, of?: ReadonlySet<string>): Promise<readonly string[]> {
  const names: readonly string[] = await readdir(folder).catch(() => []);
  const swept: string[] = [];
  const targets = of === undefined ? null : new Set(Array.from(of, fitName));
  // The old ones come last: where both are there, the new directory takes the place.
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

/** A number may have passed to another process since: that one is younger than the leftover. This process itself sweeps before it writes. */
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
