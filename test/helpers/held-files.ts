import { spawn } from "node:child_process";
import { once } from "node:events";
import type { TestContext } from "node:test";

/** Takes a write lease on each file (fcntl(2), F_SETLEASE) and keeps it until stdin is closed. Ignores SIGIO, which requests its release. */
const HOLD = `
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
held = [os.open(path, os.O_RDWR) for path in sys.argv[1:]]
for file in held:
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.read()
`;

/**
 * Makes opening these files block in the kernel, as on an unreachable network file system, until the returned function is called or the test ends.
 * The kernel breaks the leases 45 s after the first open (/proc/sys/fs/lease-break-time).
 */
export async function holdFiles(t: TestContext, paths: readonly string[]): Promise<() => Promise<void>> {
  const holder = spawn("python3", ["-c", HOLD, ...paths], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(holder, "close");
  const release = async (): Promise<void> => {
    holder.stdin.end();
    await ended;
  };
  t.after(release);
  const [said] = (await Promise.race([once(holder.stdout, "data"), ended])) as [unknown];
  if (!String(said).startsWith("held")) throw new Error("the files could not be held");
  return release;
}
