import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

// The files in which Linux reports what a process may use.

/** Returns the text of a file below /proc or /sys; empty if it does not exist. */
export function readSystemFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/**
 * Returns the directories of this process's control group (cgroup) and of its ancestors, whose limits apply too, in version 1 or 2 of cgroups. They may not
 * exist. `root` is the directory that contains /proc and /sys.
 */
export function cgroupDirectories(version: 1 | 2, controller: "cpu" | "memory", root: string): readonly string[] {
  const line = version === 2 ? /^0::(.*)$/m : new RegExp(`^\\d+:(?:[^:]*,)?${controller}(?:,[^:]*)?:(.*)$`, "m");
  const mount = version === 2 ? "sys/fs/cgroup" : `sys/fs/cgroup/${controller}`;
  // In a container, the path may be the host's, while the group itself is mounted as the root.
  let group = line.exec(readSystemFile(join(root, "proc/self/cgroup")))?.[1] ?? "/";
  const directories = [join(root, mount, group)];
  while (group !== "/" && group !== ".") {
    group = dirname(group);
    directories.push(join(root, mount, group));
  }
  return directories;
}
