import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";

/** Whether a path is a pattern: it has `*`, `?` or `[`. */
export function isGlob(path: string): boolean {
  return /[*?[]/.test(path);
}

/**
 * The files that match a pattern, in the order of their names' code points (the same on every machine): `*` and `?` stand for any characters but `/`,
 * `[a-f]` and `[!a-f]` for one of a set, a part `**` for any number of folders. Names that start with a dot match only a pattern that does.
 */
export async function expandGlob(pattern: string, cwd: string): Promise<string[]> {
  const absolute = pattern.startsWith("/") ? "/" : cwd;
  const found = await expandParts(
    absolute,
    pattern.split("/").filter((part) => part !== "" && part !== "."),
  );
  return [...new Set(found)].sort((a, b) => (a < b ? -1 : 1));
}

async function expandParts(folder: string, [part, ...rest]: readonly string[]): Promise<string[]> {
  if (part === undefined) return [];
  if (part === "**") {
    const { folders } = await list(folder);
    const deeper = folders.filter((name) => !name.startsWith(".")).map((name) => expandParts(join(folder, name), ["**", ...rest]));
    const here = rest.length === 0 ? expandParts(folder, ["*"]) : expandParts(folder, rest);
    return (await Promise.all([here, ...deeper])).flat();
  }
  if (!isGlob(part) && rest.length > 0) return expandParts(resolve(folder, part), rest);
  const matcher = toRegExp(part);
  const { files, folders } = await list(folder);
  if (rest.length === 0) return files.filter((name) => matcher.test(name)).map((name) => join(folder, name));
  const matching = folders.filter((name) => matcher.test(name));
  return (await Promise.all(matching.map((name) => expandParts(join(folder, name), rest)))).flat();
}

/** A folder's names; a link may be either. What is no folder, or can't be read, has none. */
async function list(folder: string): Promise<{ files: string[]; folders: string[] }> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const named = (kept: (typeof entries)[number][]) => kept.map((entry) => entry.name);
  return {
    files: named(entries.filter((entry) => !entry.isDirectory())),
    folders: named(entries.filter((entry) => entry.isDirectory() || entry.isSymbolicLink())),
  };
}

function toRegExp(part: string): RegExp {
  const source = part.replace(/\[[!^]?\]?[^\]]*\]|[\s\S]/g, (token) => {
    if (token === "*") return ".*";
    if (token === "?") return ".";
    if (token.length > 1) return token.replace(/^\[!/, "[^").replace(/\\/g, "\\\\");
    return token.replace(/[\\^$.|+()[\]{}]/g, "\\$&");
  });
  try {
    return new RegExp(`^${part.startsWith(".") ? "" : "(?!\\.)"}${source}$`, "su");
  } catch {
    // A set such as [z-a] has nothing in it.
    return /(?!)/;
  }
}
