import { execFileSync, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { constants } from "node:os";

/** Environment variable that passes the scratch directory to the process in the namespace. */
const SCRATCH = "NEXTVLAD_ATTACK_SCRATCH";

/** Returns the scratch directory if this process runs in its own mount namespace, otherwise undefined. */
export function scratchInNamespace(): string | undefined {
  return process.env[SCRATCH];
}

/** Returns `unshare` arguments that create a mount namespace, as root or as root of a user namespace; null if neither works. */
function unshareArguments(): readonly string[] | null {
  const ways = [
    ["--mount", "--propagation", "private"],
    ["--map-root-user", "--mount", "--propagation", "private"],
  ];
  return ways.find((way) => spawnSync("unshare", [...way, "true"], { stdio: "ignore" }).status === 0) ?? null;
}

/** Runs this program again in its own mount namespace and returns its exit code; null if no namespace can be created. */
export async function runInNamespace(scratch: string): Promise<number | null> {
  const way = unshareArguments();
  if (way === null) return null;
  const env = { ...process.env, [SCRATCH]: scratch };
  const child = spawn("unshare", [...way, process.execPath, ...process.argv.slice(1)], { stdio: "inherit", env });
  // Ctrl-C reaches both processes; the inner one terminates its commands.
  process.removeAllListeners("SIGINT").on("SIGINT", () => undefined);
  process.removeAllListeners("SIGTERM").on("SIGTERM", () => child.kill("SIGTERM"));
  return new Promise((resolve, reject) => {
    child.on("error", reject).on("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]));
  });
}

/** Mounts a tmpfs on the scratch directory and makes all other mounts except the report directory read-only. Call it inside the namespace only. */
export function isolate(scratch: string, reportFolder: string): void {
  const mount = (...args: readonly string[]): void => void execFileSync("mount", args, { stdio: ["ignore", "ignore", "pipe"] });
  mount("--bind", reportFolder, reportFolder);
  mount("-t", "tmpfs", "-o", "size=4g", "tmpfs", scratch);
  for (const place of mountPoints()) {
    if (place === scratch || place === reportFolder) continue;
    // `bind` changes the mount in this namespace only. A user namespace cannot change all mounts, but cannot write to the others either.
    spawnSync("mount", ["-o", "remount,bind,ro", place], { stdio: "ignore" });
  }
}

function mountPoints(): string[] {
  const lines = readFileSync("/proc/self/mountinfo", "utf8").trim().split("\n");
  // The kernel escapes characters such as spaces in octal.
  return lines.map((line) =>
    (line.split(" ")[4] as string).replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))),
  );
}
