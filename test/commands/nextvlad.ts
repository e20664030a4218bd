import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";

/** The repository: the nearest folder above the compiled tests with a package.json. */
export const repository = findRepository(dirname(fileURLToPath(import.meta.url)));

function findRepository(folder: string): string {
  return existsSync(join(folder, "package.json")) ? folder : findRepository(dirname(folder));
}

/** The compiled file that belongs to a source file, by its path below src/. */
export function compiled(path: string): string {
  return fileURLToPath(new URL(`../../src/${path}`, import.meta.url));
}

/** What a process left behind. */
export interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; one that takes longer than 60 s is killed, and has no exit code then. */
export function runToEnd(file: string, args: readonly string[], options: SpawnOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: repository, timeout: 60_000, ...options, stdio: ["ignore", "pipe", "pipe"] });
    const [stdout, stderr]: [Buffer[], Buffer[]] = [[], []];
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", reject);
    child.on("close", (exitCode, signal) =>
      resolve({ exitCode, signal, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() }),
    );
  });
}

/** Runs `nextvlad` as a real process. */
export function runNextvlad(args: readonly string[], options: SpawnOptions = {}): Promise<Ended> {
  return runToEnd(process.execPath, [compiled("nextvlad.cjs"), ...args], options);
}

/** Starts `nextvlad` and calls `act` with it once it has said `words`; resolves when it has ended. */
export async function interruptNextvlad(args: readonly string[], words: string, act: (child: ChildProcess) => void) {
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), ...args], { timeout: 60_000 });
  let output = "";
  let acted = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      if (acted || !output.includes(words)) return;
      acted = true;
      act(child);
    });
  }
  const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return { exitCode, signal, output };
}

/** A folder that lasts as long as the test. */
export function scratch(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
