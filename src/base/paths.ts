import { isUtf8 } from "node:buffer";
import { readFileSync, readlinkSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NextvladError } from "./errors.js";

/**
 * Throws BAD_USAGE if a path has bytes that are not UTF-8: Node replaces them with U+FFFD, so it would name another file. `readBytes` returns the bytes that
 * the path was decoded from.
 */
function assertUtf8(path: string, what: string, readBytes: () => Uint8Array): void {
  if (!path.includes("\uFFFD")) return;
  try {
    // The path may really contain U+FFFD.
    if (isUtf8(readBytes())) return;
  } catch {
    return;
  }
  const remedy = "rename the file or directory";
  throw new NextvladError("BAD_USAGE", what, { file: path, remedy });
}

/** Throws BAD_USAGE if the path of the working directory is not UTF-8: relative paths would resolve to another directory. */
export function assertUtf8WorkingDirectory(): void {
  const readBytes = (): Uint8Array => readlinkSync("/proc/self/cwd", { encoding: "buffer" });
  assertUtf8(process.cwd(), "the path of the working directory is not UTF-8", readBytes);
}

function homeFromEnvironment(): Uint8Array {
  const environment = readFileSync("/proc/self/environ");
  const start = environment.indexOf("\0HOME=") + 1;
  return environment.subarray(start, environment.indexOf(0, start));
}

/** Expands a leading `~`, for shells that do not (`--weights=~/best`). Throws BAD_USAGE if the path of the home directory is not UTF-8. */
export function expandHome(path: string): string {
  if (path !== "~" && !path.startsWith("~/")) return path;
  assertUtf8(homedir(), "the path of the home directory (HOME) is not UTF-8", homeFromEnvironment);
  return join(homedir(), path.slice(1));
}

/** How to get the files of a URL, by its scheme. */
const REMEDIES: Readonly<Record<string, string>> = {
  gs: "copy the files to a local disk (gcloud storage cp), or mount the bucket (gcsfuse), and pass the local path",
  s3: "copy the files to a local disk (aws s3 cp), or mount the bucket (mount-s3), and pass the local path",
  http: "download it (curl -O), and pass the local path",
  https: "download it (curl -O), and pass the local path",
};

/** Returns the remedy for a URL where a path is expected; null for a path. */
export function urlRemedy(path: string): string | null {
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(path) ?? [];
  if (scheme === undefined) return null;
  if (scheme.toLowerCase() === "file") return `write only the path: ${pathOf(path)}`;
  return REMEDIES[scheme.toLowerCase()] ?? "copy the files to a local disk, and pass the local path";
}

function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    return url.slice("file://".length);
  }
}

/** The error text for a URL where a path is expected. */
export const URL_PROBLEM = "URLs are not supported, only local files";

/** Returns a path of the command line with `~` expanded. Throws BAD_USAGE for a URL and for a path that is not UTF-8. */
export function localPath(path: string): string {
  assertUtf8(path, "the path is not UTF-8", () => readFileSync("/proc/self/cmdline"));
  const remedy = urlRemedy(path);
  if (remedy !== null) throw new NextvladError("BAD_USAGE", URL_PROBLEM, { file: path, remedy });
  return expandHome(path);
}
