import { spawn } from "node:child_process";
import { fileError, NextvladError } from "../../src/base/errors.js";

/** Runs a program and returns its stdout. Throws WORKER_DIED with the last line of its stderr if it fails, and FILE_MISSING if it does not exist. */
export function runChild(program: string, args: readonly string[], signal: AbortSignal, env: NodeJS.ProcessEnv = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { signal, stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
    const output = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const) {
      child[name].setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
      });
    }
    const fail = (what: string): void => {
      const lastLine = output.stderr.trim().split("\n").at(-1) ?? "";
      reject(new NextvladError("WORKER_DIED", `${program} ${args[0] ?? ""} ${what}${lastLine === "" ? "" : `: ${lastLine}`}`));
    };
    child.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") reject(fileError(error, program, "read"));
      else fail(`did not start: ${error.message}`);
    });
    child.on("close", (code, killedBy) => (code === 0 ? resolve(output.stdout) : fail(`exited with ${killedBy ?? `code ${code}`}`)));
  });
}
