import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";

/** Creates an empty folder that is removed when the test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Creates files below /proc and /sys in a temporary folder, by their paths without the first slash; returns the folder, with a slash at its end. */
export function systemFiles(t: TestContext, files: Readonly<Record<string, string>>): string {
  const root = temporaryFolder(t);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  return `${root}/`;
}

/** Makes all writes to a file that this process has open fail, as on a full disk: redirects its descriptor to /dev/full. */
export function fillDisk(path: string): void {
  const isOpen = (name: string): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === path;
    } catch {
      return false;
    }
  };
  const descriptor = Number(readdirSync("/proc/self/fd").find(isOpen));
  closeSync(descriptor);
  const opened: number[] = [];
  // `open` returns the lowest free descriptor.
  do opened.push(openSync("/dev/full", "w"));
  while (opened.at(-1) !== descriptor);
  for (const other of opened) if (other !== descriptor) closeSync(other);
}

/** Takes a write lease on each file (fcntl(2), F_SETLEASE) and keeps it until stdin is closed. Ignores SIGIO, which requests its release. */
const LEASE_PROGRAM = `
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
export async function blockFiles(t: TestContext, paths: readonly string[]): Promise<() => Promise<void>> {
  const holder = spawn("python3", ["-c", LEASE_PROGRAM, ...paths], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(holder, "close");
  const release = async (): Promise<void> => {
    holder.stdin.end();
    await ended;
  };
  t.after(release);
  const [output] = (await Promise.race([once(holder.stdout, "data"), ended])) as [unknown];
  if (!String(output).startsWith("held")) throw new Error("cannot take leases on the files");
  return release;
}
