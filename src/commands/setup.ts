import { spawn } from "node:child_process";
import { delimiter, dirname, join } from "node:path";
import { waitForExit } from "../base/child-process.js";
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
    return (await waitForExit(child)).code;
  } catch (error) {
    throw new NextvladError("NOT_SET_UP", `cannot run bash: ${(error as Error).message}`, { remedy: "install bash" }, error);
  }
}
