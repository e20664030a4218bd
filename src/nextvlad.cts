#!/usr/bin/env node
// Must be set before the first file is read. libuv's thread pool (4 threads by default) serves the whole process: 4 reads that never return (a dead network
// disk) would block all other reads and writes. An ES module would be too late, because it is itself loaded through the pool.
process.env.UV_THREADPOOL_SIZE ??= "64";

/** Minimum limit of open files: modules are loaded in parallel, and each thread has its own descriptors. */
const MIN_OPEN_FILES = 128;
/**
 * Minimum free address space in bytes. The stacks of the pool's threads take 0.5 GB; V8's heap and the modules take the rest (Node 20). If it runs out, a
 * signal kills Node.
 */
const MIN_ADDRESS_SPACE = 1.25e9;

/** The oldest Node.js that works. */
const MIN_NODE = 20;
/** What also works with an older one. */
const DIAGNOSTICS = ["doctor", "version", "--version", "-v"];

/** Returns the first number after `name` in /proc/self/`file`; Infinity if there is none. */
function readNumber(file: string, name: string): number {
  try {
    const text: string = (require("node:fs") as typeof import("node:fs")).readFileSync(`/proc/self/${file}`, "utf8");
    return Number(new RegExp(`^${name}\\s+(\\d+)`, "m").exec(text)?.[1] ?? Number.POSITIVE_INFINITY);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** Why no command can run, and what to do. */
interface Problem {
  readonly what: string;
  readonly remedy: string;
}

/** Returns whether Node.js is too old; null if it is not, or the command is one that says so itself. */
function findOldNode(): Problem | null {
  const { node } = process.versions;
  if (Number.parseInt(node, 10) >= MIN_NODE || DIAGNOSTICS.includes(process.argv[2] ?? "")) return null;
  return { what: `this Node.js is too old (expected 20, 22 or 24, found ${node})`, remedy: "install Node.js 22: nvm install 22" };
}

/** Returns the process limit (ulimit) that is too low for any command; null if none is. */
function findLowLimit(): Problem | null {
  const files = readNumber("limits", "Max open files");
  if (files < MIN_OPEN_FILES) {
    const what = `the limit of open files is too low (expected at least ${MIN_OPEN_FILES}, found ${files})`;
    return { what, remedy: "raise it: ulimit -n 1024" };
  }
  const space = readNumber("limits", "Max address space");
  const needed = 1024 * readNumber("status", "VmSize:") + MIN_ADDRESS_SPACE;
  if (!Number.isFinite(space) || space >= needed) return null;
  const [expected, found] = [needed, space].map((bytes) => `${Math.ceil(bytes / 1024)} kB`);
  const what = `the limit of the address space is too low (expected at least ${expected}, found ${found})`;
  return { what, remedy: "raise it: ulimit -v unlimited" };
}

const problem = findOldNode() ?? findLowLimit();
if (problem === null) void import("./cli.js").then(({ main }) => main());
else {
  process.stderr.write(`error[NOT_READY]: ${problem.what}\n  help: ${problem.remedy}\n`);
  process.exitCode = 1;
}
