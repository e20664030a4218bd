import type { BigIntStats, Dirent } from "node:fs";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { NextvladError } from "../base/errors.js";

/** The matches of a pattern. */
export interface GlobMatches {
  /** Each file once, under its absolute path, sorted by name. */
  readonly files: readonly MatchedFile[];
  /** Number of further paths that lead to a file or directory that is already matched. */
  readonly duplicates: number;
  /** Directories that cannot be read, each with its error code. */
  readonly unreadable: readonly string[];
}

export interface MatchedFile {
  readonly path: string;
  /** Null if the path cannot be examined, as for a dangling link. */
  readonly stats: BigIntStats | null;
}

/** Whether a path is a pattern: it contains `*`, `?` or `[`. */
export function isGlob(path: string): boolean {
  return /[*?[]/.test(path);
}

/**
 * Finds the files that match a pattern. `*` and `?` match any characters except `/`, `[a-f]` and `[!a-f]` match one character of a set, and a part `**` matches
 * any number of directories. Names that start with a dot match only a part that does. Links are followed. Files and directories are identified by device and
 * inode, so link cycles terminate, and a file reached by several paths is one match: under the path without links, or else under the first path.
 * Throws BAD_FILE_LIST if a matching name is not UTF-8.
 */
export async function expandGlob(pattern: string, cwd: string): Promise<GlobMatches> {
  const parts = pattern.split("/").filter((part, i, all) => part !== "" && part !== "." && !(part === "**" && all[i - 1] === "**"));
  const walk = new Walk(await Promise.all(parts.map(toPart)));
  await walk.from(pattern.startsWith("/") ? "/" : cwd);
  return walk.matches();
}

/** One part of a pattern: any number of directories, a literal name, or a predicate on names. */
type Part = "**" | { readonly name: string } | { readonly test: (name: string) => boolean };

async function toPart(part: string): Promise<Part> {
  if (part === "**") return part;
  if (!isGlob(part)) return { name: part };
  // Minimatch is linear in the name's length for any number of stars; a regular expression may take exponential time.
  const { Minimatch } = await import("minimatch");
  // Backslashes are literal here.
  const matcher = new Minimatch(part.replaceAll("\\", "\\\\"), {
    nobrace: true,
    nocomment: true,
    noext: true,
    noglobstar: true,
    nonegate: true,
  });
  return { test: (name) => matcher.match(name) };
}

/** A directory whose entries are matched against the parts from `next` on. */
interface Place {
  readonly directory: string;
  readonly next: number;
}

/** A breadth-first walk that follows links only after everything reachable without them has been visited. */
class Walk {
  readonly #parts: readonly Part[];
  /** Each visited directory, by part and identity. */
  readonly #visited = new Map<string, MatchedFile>();
  /** Each matched file, by identity. */
  readonly #files = new Map<string, MatchedFile>();
  readonly #duplicates = new Set<string>();
  readonly #unreadable = new Set<string>();
  /** Links to directories and to files that have not been followed yet. */
  #links: Place[] = [];
  #fileLinks: string[] = [];

  constructor(parts: readonly Part[]) {
    this.#parts = parts;
  }

  async from(root: string): Promise<void> {
    let places: Place[] = [{ directory: root, next: 0 }];
    while (places.length > 0) {
      places = await this.#visit(places);
      if (places.length > 0) continue;
      places = this.#links;
      this.#links = [];
    }
    await this.#addFiles(this.#fileLinks);
  }

  matches(): GlobMatches {
    const files = [...this.#files.values()].sort((a, b) => byName(a.path, b.path));
    return { files, duplicates: this.#duplicates.size, unreadable: [...this.#unreadable].sort(byName) };
  }

  /** Matches the entries of directories. Returns the directories to visit next, without links. */
  async #visit(places: readonly Place[]): Promise<Place[]> {
    const fresh = await this.#unvisited(places);
    const found = await Promise.all(fresh.map((place) => this.#match(place)));
    await this.#addFiles(found.flatMap(({ files }) => files));
    return found.flatMap(({ directories }) => directories);
  }

  /** Returns the places that have not been visited, each directory once. */
  async #unvisited(places: readonly Place[]): Promise<Place[]> {
    const sorted = places.toSorted((a, b) => byName(a.directory, b.directory));
    const identities = await Promise.all(sorted.map(({ directory }) => identify(directory)));
    return sorted.filter(({ directory, next }, i) => {
      const { key, stats } = identities[i] as Identity;
      return this.#isFirst(this.#visited, `${next} ${key}`, { path: directory, stats });
    });
  }

  async #addFiles(paths: readonly string[]): Promise<void> {
    const sorted = paths.toSorted(byName);
    const identities = await Promise.all(sorted.map(identify));
    for (const [i, path] of sorted.entries()) {
      const { key, stats } = identities[i] as Identity;
      this.#isFirst(this.#files, key, { path, stats });
    }
  }

  /** Records the path that leads to an item. Returns false if a path is already known, and counts this path as a duplicate if it differs. */
  #isFirst(known: Map<string, MatchedFile>, key: string, file: MatchedFile): boolean {
    const first = known.get(key);
    if (first === undefined) known.set(key, file);
    else if (first.path !== file.path) this.#duplicates.add(file.path);
    return first === undefined;
  }

  async #match({ directory, next }: Place): Promise<{ readonly files: string[]; readonly directories: Place[] }> {
    const part = this.#parts[next];
    const isLast = next === this.#parts.length - 1;
    const [files, directories]: [string[], Place[]] = [[], []];
    if (part === undefined) return { files, directories };
    if (part !== "**" && "name" in part && !isLast)
      return { files, directories: [{ directory: resolve(directory, part.name), next: next + 1 }] };
    if (part === "**" && !isLast) directories.push({ directory, next: next + 1 });
    for (const entry of await this.#list(directory)) {
      const path = join(directory, entry.name);
      const matches = part === "**" ? !entry.name.startsWith(".") : "name" in part ? entry.name === part.name : part.test(entry.name);
      if (!matches) continue;
      const isLink = entry.isSymbolicLink();
      const isDirectory = isLink ? await isDirectoryAt(path) : entry.isDirectory();
      if (isDirectory ? part === "**" || !isLast : isLast) await assertUtf8Name(path, entry.name);
      if (!isDirectory && isLast) (isLink ? this.#fileLinks : files).push(path);
      if (isDirectory && (part === "**" || !isLast))
        (isLink ? this.#links : directories).push({ directory: path, next: part === "**" ? next : next + 1 });
    }
    return { files, directories };
  }

  /** Returns the entries of a directory; none if it does not exist or cannot be read. */
  async #list(directory: string): Promise<Dirent[]> {
    try {
      return await readdir(directory, { withFileTypes: true });
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "ENOTDIR" && code !== "ELOOP") this.#unreadable.add(`${directory} (${code})`);
      return [];
    }
  }
}

interface Identity {
  readonly key: string;
  readonly stats: BigIntStats | null;
}

/**
 * Identifies what a path leads to by device and inode, or by its real path on file systems without inodes. If that fails, as for a dangling link, the path
 * itself is the key: reading it reports the error.
 */
async function identify(path: string): Promise<Identity> {
  try {
    const stats = await stat(path, { bigint: true });
    return { key: stats.ino === 0n ? await realpath(path) : `${stats.dev}:${stats.ino}`, stats };
  } catch {
    return { key: path, stats: null };
  }
}

/** Throws BAD_FILE_LIST if a name is not UTF-8: Node replaces its invalid bytes with U+FFFD, and no file exists at the resulting path. */
async function assertUtf8Name(path: string, name: string): Promise<void> {
  if (!name.includes("\uFFFD")) return;
  const exists = await lstat(path).then(
    () => true,
    () => false,
  );
  if (exists) return;
  throw new NextvladError("BAD_FILE_LIST", "the pattern matches a name that is not UTF-8", { file: path, remedy: "rename it" });
}

async function isDirectoryAt(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
