import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { PACKAGE_DIRECTORY } from "../base/package.js";
import type { SetupFlags } from "./flags.js";

/** `nextvlad setup`: downloads TensorFlow's library and compiles the binding in the package's own directory; returns the exit code. */
export async function runSetup({ device }: SetupFlags): Promise<number> {
  const script = join(PACKAGE_DIRECTORY, "scripts", "setup.sh");
  const child = spawn("bash", [script], {
    stdio: "inherit",
    env: {
      ...process.env,
      // The script runs Node too, and should use this executable.
      PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ""}`,
      ...(device === undefined ? {} : { NEXTVLAD_DEVICE: device }),
    },
  });
  try {
    const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
    return exitCode ?? 128 + constants.signals[signal ?? "SIGTERM"];
  } catch (error) {
    throw new NextvladError("NOT_SET_UP", `cannot run bash: ${(error as Error).message}`, { remedy: "install bash" }, error);
  }
}
