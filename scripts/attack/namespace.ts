import { execFileSync, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";

/** Names the scratch folder to the process that runs in the namespace. */
const SCRATCH = "NEXTVLAD_ATTACK_SCRATCH";

/** The scratch folder, where this process runs in a mount namespace of its own; else undefined. */
export function scratchInNamespace(): string | undefined {
  return process.env[SCRATCH];
}

/** How to enter a mount namespace here: as root, or as root of a user namespace. Null where neither works. */
function unshareArguments(): readonly string[] | null {
  const ways = [
    ["--mount", "--propagation", "private"],
    ["--map-root-user", "--mount", "--propagation", "private"],
  ];
  return ways.find((way) => spawnSync("unshare", [...way, "true"], { stdio: "ignore" }).status === 0) ?? null;
}

/** Runs this program again in a mount namespace of its own, to its end, and returns its exit code; null where there can be no namespace. */
export async function runInNamespace(scratch: string): Promise<number | null> {
  const way = unshareArguments();
  if (way === null) return null;
  const env = { ...process.env, [SCRATCH]: scratch };
  const child = spawn("unshare", [...way, process.execPath, ...process.argv.slice(1)], { stdio: "inherit", env });
  // Ctrl-C reaches both processes; the one inside ends its commands.
  process.removeAllListeners("SIGINT").on("SIGINT", () => undefined);
  process.removeAllListeners("SIGTERM").on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]));
  });
}

/** In the namespace: puts a file system in memory on the scratch folder, and makes all others read-only but the report's folder. */
export function isolate(scratch: string, reportFolder: string): void {
  const mount = (...args: readonly string[]): void => void execFileSync("mount", args, { stdio: ["ignore", "ignore", "pipe"] });
  mount("--bind", reportFolder, reportFolder);
  mount("-t", "tmpfs", "-o", "size=4g", "tmpfs", scratch);
  for (const place of mountPoints()) {
    if (place === scratch || place === reportFolder) continue;
    // `bind` changes the mount of this namespace alone. A user namespace may not change all of them; it cannot write to those either.
    spawnSync("mount", ["-o", "remount,bind,ro", place], { stdio: "ignore" });
  }
}

function mountPoints(): string[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n");
  // The kernel escapes spaces and the like.
  return lines.map((line) =>
    (line.split(" ")[4] as string).replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))),
  );
}
