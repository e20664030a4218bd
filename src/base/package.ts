import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** This package's directory: the nearest ancestor of the compiled code that has a package.json. */
export const PACKAGE_DIRECTORY = nearestPackage(dirname(fileURLToPath(import.meta.url)));

function nearestPackage(directory: string): string {
  return existsSync(join(directory, "package.json")) || directory === dirname(directory) ? directory : nearestPackage(dirname(directory));
}

/** Returns the version in this package's package.json. */
export function version(): string {
  return (JSON.parse(readFileSync(join(PACKAGE_DIRECTORY, "package.json"), "utf8")) as { version: string }).version;
}

/** Returns the command that sets up this copy: the script in a clone, which has files that are not packed, else `nextvlad setup`. */
export function setupCommand(): string {
  return existsSync(join(PACKAGE_DIRECTORY, "tsconfig.json")) ? "scripts/setup.sh" : "nextvlad setup";
}
