import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

/** Options for `test` that skip it if Python is missing. The standard library suffices. */
export const needsPython = {
  skip: spawnSync("python3", ["--version"]).status === 0 ? false : "python3 is missing",
} as const;

/** Runs a Python program and returns what it printed, parsed as JSON. */
export function runPython(program: string, args: readonly string[] = [], input: Uint8Array = new Uint8Array(0)): unknown {
  const python = spawnSync("python3", ["-c", program, ...args], { input, encoding: "utf8", maxBuffer: 1 << 28 });
  assert.equal(python.status, 0, python.stderr);
  return JSON.parse(python.stdout);
}
