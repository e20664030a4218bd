import { lstatSync, readdirSync, readlinkSync } from "node:fs";
import { join, relative } from "node:path";

/** What stands at each path below some folders: type, inode, size and modification time. */
export type FileState = ReadonlyMap<string, string>;

/** Looks at all files below folders but those in `targets`; of a target, only at what `keeps` names. Links are not followed. */
export function lookAtFiles(
  root: string,
  folders: readonly string[],
  targets: readonly string[] = [],
  keeps: readonly string[] = [],
): FileState {
  const state = new Map<string, string>();
  const add = (path: string): void => {
    const name = relative(root, path);
    const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (found === undefined) return;
    const type = TYPES.find(([, is]) => found[is]())?.[0] ?? "unknown";
    // A folder's size and time change with what is in it, which is looked at by itself.
    if (type === "folder") state.set(name, `folder ${found.ino}`);
    else if (type === "link") state.set(name, `link ${found.ino} to ${readlinkSync(path)}`);
    else if (type !== "file") state.set(name, `${type} ${found.ino}`);
    else state.set(name, `file ${found.ino}, ${found.size} bytes, mode ${found.mode.toString(8)}, modified ${found.mtimeNs}`);
    if (type !== "folder") return;
    for (const entry of readdirSync(path)) if (!targets.includes(join(path, entry))) add(join(path, entry));
  };
  for (const folder of [...folders, ...keeps]) if (!targets.includes(folder)) add(folder);
  return state;
}

const TYPES = [
  ["file", "isFile"],
  ["folder", "isDirectory"],
  ["link", "isSymbolicLink"],
  ["FIFO", "isFIFO"],
  ["socket", "isSocket"],
  ["device", "isCharacterDevice"],
] as const;

/** What differs between two looks, in words. */
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
