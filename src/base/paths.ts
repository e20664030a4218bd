import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NextvladError } from "./errors.js";

/** A path with the home directory in place of a leading `~`, for shells that do not expand it (`--weights=~/best`). */
export function expandHome(path: string): string {
  return path === "~" || path.startsWith("~/") ? join(homedir(), path.slice(1)) : path;
}

/** How to bring the files of a URL's scheme here. */
const REMEDIES: Readonly<Record<string, string>> = {
  gs: "copy the files to a local disk (gcloud storage cp), or mount the bucket (gcsfuse), and name the local path",
  s3: "copy the files to a local disk (aws s3 cp), or mount the bucket (mount-s3), and name the local path",
  http: "download it (curl -O), and name the local path",
  https: "download it (curl -O), and name the local path",
};

/** What to do about a URL where a path is expected; null for a path. */
export function urlRemedy(path: string): string | null {
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(path) ?? [];
  if (scheme === undefined) return null;
  if (scheme.toLowerCase() === "file") return `write the path alone: ${pathOf(path)}`;
  return REMEDIES[scheme.toLowerCase()] ?? "copy the files to a local disk, and name the local path";
}

function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    return url.slice("file://".length);
  }
}

/** What is wrong with a URL where a path is expected. */
export const URL_PROBLEM = "URLs are not read or written, only local files";

/** A path as the command line names it, `~` expanded. Throws BAD_USAGE for a URL. */
export function localPath(path: string): string {
  const remedy = urlRemedy(path);
  if (remedy !== null) throw new NextvladError("BAD_USAGE", URL_PROBLEM, { file: path, remedy });
  return expandHome(path);
}
