import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** This package's folder: the nearest above the compiled code with a package.json. */
export const PACKAGE_FOLDER = nearestPackage(dirname(fileURLToPath(import.meta.url)));

function nearestPackage(folder: string): string {
  return existsSync(join(folder, "package.json")) || folder === dirname(folder) ? folder : nearestPackage(dirname(folder));
}

/** The command that sets this copy up: a clone runs the script itself, and has what is not packed. */
export function setUpCommand(): string {
  return existsSync(join(PACKAGE_FOLDER, "tsconfig.json")) ? "scripts/setup.sh" : "nextvlad setup";
}
