import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { quoteForShell } from "./shell.js";

/** This package's directory: the nearest ancestor of the compiled code that has a package.json. */
export const PACKAGE_DIRECTORY = nearestPackage(dirname(fileURLToPath(import.meta.url)));

function nearestPackage(directory: string): string {
  return existsSync(join(directory, "package.json")) || directory === dirname(directory) ? directory : nearestPackage(dirname(directory));
}

function read(path: string): string {
  return readFileSync(join(PACKAGE_DIRECTORY, path), "utf8");
}

function readManifest(): { readonly version: string; readonly dependencies: Readonly<Record<string, string>> } {
  return JSON.parse(read("package.json"));
}

/** Returns the version in this package's package.json. */
export function version(): string {
  return readManifest().version;
}

/** Returns the versions of this package, of its binding to TensorFlow, of TensorFlow as setup installs it, and of Node.js, by name. */
export function versions(): Readonly<Record<"nextvlad" | "tfjs-node-gpu" | "TensorFlow" | "Node.js", string>> {
  const { version, dependencies } = readManifest();
  const wheels = "scripts/tensorflow/cpu.txt";
  const tensorflow = existsSync(join(PACKAGE_DIRECTORY, wheels)) ? /^tensorflow-cpu==(\S+)/m.exec(read(wheels))?.[1] : undefined;
  return {
    nextvlad: version,
    "tfjs-node-gpu": dependencies["@tensorflow/tfjs-node-gpu"] ?? "unknown",
    TensorFlow: tensorflow ?? "unknown",
    "Node.js": process.versions.node,
  };
}

/** Returns the versions as one line: `nextvlad 0.1.0 (tfjs-node-gpu 4.22.0, ...)`. */
export function describeVersions(): string {
  const [own, ...others] = Object.entries(versions()).map(([name, version]) => `${name} ${version}`);
  return `${own} (${others.join(", ")})`;
}

/** Returns the command that sets up this copy: the script in a clone, which has files that are not packed, else `nextvlad setup`. */
export function setupCommand(): string {
  return existsSync(join(PACKAGE_DIRECTORY, "tsconfig.json")) ? "scripts/setup.sh" : "nextvlad setup";
}

/**
 * Returns the commands that set up this copy again, after they remove a build (all builds by default): setup keeps a build that is complete, even if its files
 * are damaged.
 */
export function setupAgain(build = "", setup: string = setupCommand()): string {
  const builds = setupCommand().startsWith("scripts/") ? ".native" : join(PACKAGE_DIRECTORY, ".native");
  return `rm -rf ${quoteForShell(join(builds, build))}, then ${setup}`;
}
