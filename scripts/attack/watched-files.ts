import { lstatSync, readdirSync, readlinkSync } from "node:fs";
import { join, relative } from "node:path";

/** State of each path: type and inode; also the target of a link, and the size, mode and modification time of a file. */
export type FileState = ReadonlyMap<string, string>;

/** Records the state of all files in `directories`, excluding `targets` but including `keeps`. Links are not followed. */
export function lookAtFiles(
  root: string,
  directories: readonly string[],
  targets: readonly string[] = [],
  keeps: readonly string[] = [],
): FileState {
  const state = new Map<string, string>();
  const add = (path: string): void => {
    const name = relative(root, path);
    const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (found === undefined) return;
    const type = TYPES.find(([, is]) => found[is]())?.[0] ?? "unknown";
    // A directory's size and time change with its entries, which are recorded separately.
    if (type === "directory") state.set(name, `directory ${found.ino}`);
    else if (type === "link") state.set(name, `link ${found.ino} to ${readlinkSync(path)}`);
    else if (type !== "file") state.set(name, `${type} ${found.ino}`);
    else state.set(name, `file ${found.ino}, ${found.size} bytes, mode ${found.mode.toString(8)}, modified ${found.mtimeNs}`);
    if (type !== "directory") return;
    for (const entry of readdirSync(path)) if (!targets.includes(join(path, entry))) add(join(path, entry));
  };
  for (const directory of [...directories, ...keeps]) if (!targets.includes(directory)) add(directory);
  return state;
}

const TYPES = [
  ["file", "isFile"],
  ["directory", "isDirectory"],
  ["link", "isSymbolicLink"],
  ["FIFO", "isFIFO"],
  ["socket", "isSocket"],
  ["device", "isCharacterDevice"],
] as const;

/** Describes the differences between two states. */
export function compareFiles(before: FileState, after: FileState): readonly string[] {
  const changes: string[] = [];
  for (const [name, state] of before) {
    const now = after.get(name);
    if (now === undefined) changes.push(`removed ${JSON.stringify(name)}`);
    else if (now !== state) changes.push(`changed ${JSON.stringify(name)}: ${state} -> ${now}`);
  }
  for (const name of after.keys()) if (!before.has(name)) changes.push(`created ${JSON.stringify(name)}`);
  return changes;
}
