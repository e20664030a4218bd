#!/usr/bin/env node
// Before anything is read: libuv's threads, of which there are four by default, serve the whole process, and four reads that never answer (a network
// disk that has died) would keep everyone else from reading and saving. An ES module would be too late, as it is itself read by them.
process.env.UV_THREADPOOL_SIZE ??= "64";

/** Modules are read many at a time, and each thread has descriptors of its own. */
const MIN_OPEN_FILES = 128;
/** The stacks of those threads take 0.5 GB of addresses; V8's heap and the modules take the rest (Node 20). Node ends by a signal if they run out. */
const MIN_ADDRESS_SPACE = 1.25e9;

/** The first number in a file of /proc that follows a name; Infinity if there is none. */
function readNumber(file: string, name: string): number {
  try {
    const text: string = (require("node:fs") as typeof import("node:fs")).readFileSync(`/proc/self/${file}`, "utf8");
    return Number(new RegExp(`^${name}\\s+(\\d+)`, "m").exec(text)?.[1] ?? Number.POSITIVE_INFINITY);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** Which limit of the process (ulimit) is too low for any command; null if none is. */
function findLowLimit(): string | null {
  const files = readNumber("limits", "Max open files");
  if (files < MIN_OPEN_FILES) {
    return `the limit of open files is too low (expected at least ${MIN_OPEN_FILES}, found ${files}). Raise it: ulimit -n 1024.`;
  }
  const space = readNumber("limits", "Max address space");
  const needed = 1024 * readNumber("status", "VmSize:") + MIN_ADDRESS_SPACE;
  if (!Number.isFinite(space) || space >= needed) return null;
  const [expected, found] = [needed, space].map((bytes) => `${Math.ceil(bytes / 1024)} kB`);
  return `the limit of the address space is too low (expected at least ${expected}, found ${found}). Raise it: ulimit -v unlimited.`;
}

const problem = findLowLimit();
if (problem === null) void import("./cli.js").then(({ main }) => main());
else {
  process.stderr.write(`nextvlad: error: ${problem}\n`);
  process.exitCode = 1;
}
