import assert from "node:assert/strict";
import { totalmem } from "node:os";
import { test } from "node:test";
import { availableMemory, readLimit, requireMemory, requireProcessLimits } from "../../src/base/resource-limits.js";
import { systemFiles } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

const MEMINFO = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n";
const LIMITS = (files: string, space: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units     \nMax open files            ${files}                 4096                 files     \nMax address space         ${space}            unlimited            bytes     \n`;

test("the available memory is a part of this machine's memory", () => {
  const { bytes } = availableMemory();
  assert.ok(bytes > 0 && bytes < totalmem(), String(bytes));
});

test("free swap counts as available within the cgroup's limit", (t) => {
  const swap = `${MEMINFO}SwapFree:        2000000 kB\n`;
  assert.equal(availableMemory(systemFiles(t, { "proc/meminfo": swap, "proc/self/cgroup": "0::/\n" })).bytes, 10_240_000_000);
  const second = (max: string) =>
    systemFiles(t, {
      "proc/meminfo": swap,
      "proc/self/cgroup": "0::/job\n",
      "sys/fs/cgroup/job/memory.max": "1000000000\n",
      "sys/fs/cgroup/job/memory.swap.max": `${max}\n`,
      "sys/fs/cgroup/job/memory.swap.current": "100000000\n",
    });
  const found = ["max", "0", "500000000"].map((max) => availableMemory(second(max)).bytes);
  assert.deepEqual(found, [3_048_000_000, 1e9, 1.4e9]);
  // Version 1 has a common limit and usage for memory plus swap.
  const first = systemFiles(t, {
    "proc/meminfo": swap,
    "proc/self/cgroup": "4:memory:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "300000000\n",
    "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes": "1500000000\n",
    "sys/fs/cgroup/memory/memory.memsw.usage_in_bytes": "400000000\n",
  });
  assert.equal(availableMemory(first).bytes, 0.7e9 + 0.4e9);
});

test("the available memory is the minimum of machine, cgroup and address space", (t) => {
  const machine = systemFiles(t, { "proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n" });
  assert.deepEqual(
    [availableMemory(machine).bytes, availableMemory(machine).limit],
    [8_192_000_000, "the memory of this machine (MemAvailable and SwapFree)"],
  );
  // Version 2: the parent group has the limit; file pages can be reclaimed.
  const second = systemFiles(t, {
    "proc/meminfo": MEMINFO,
    "proc/self/cgroup": "0::/job/step\n",
    "sys/fs/cgroup/job/step/memory.max": "max\n",
    "sys/fs/cgroup/job/memory.max": "5000000000\n",
    "sys/fs/cgroup/job/memory.current": "4000000000\n",
    "sys/fs/cgroup/job/memory.stat": "anon 1\ninactive_file 400000000\nactive_file 600000000\n",
  });
  assert.deepEqual([availableMemory(second).bytes, availableMemory(second).limit], [2e9, "the memory limit of the container (cgroup)"]);
  // Version 1, with the host's path: in the container, the group is mounted as the root.
  const first = systemFiles(t, {
    "proc/meminfo": MEMINFO,
    "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000000\n",
    "sys/fs/cgroup/memory/memory.stat": "active_file 7\ntotal_inactive_file 300000000\ntotal_active_file 200000000\n",
  });
  assert.equal(availableMemory(first).bytes, 2.5e9);
  const addresses = systemFiles(t, {
    "proc/meminfo": MEMINFO,
    "proc/self/limits": LIMITS("1024", "2000000000"),
    "proc/self/status": "VmSize:\t 1000000 kB\n",
  });
  assert.deepEqual(
    [availableMemory(addresses).bytes, availableMemory(addresses).limit],
    [976_000_000, "the limit of the address space (ulimit -v)"],
  );
});

test("too little memory is an error with the sizes, the limit and a remedy", async () => {
  const available = { bytes: 3e9, limit: "the memory of this machine (MemAvailable and SwapFree)", remedy: "end other programs" };
  requireMemory("training this model", { parameters: 1e9, moments: 2e9 }, available);
  const error = await failsWith(
    (async () => requireMemory("training this model", { parameters: 2e9, moments: 4e9 }, available))(),
    "OUT_OF_MEMORY",
  );
  assert.equal(
    error.message,
    "training this model needs more memory than is available (parameters 2 GB, moments 4 GB) (expected at least 6 GB, found 3 GB within the memory of this machine (MemAvailable and SwapFree)). End other programs.",
  );
});

test("too little address space or too few file descriptors for the threads and TensorFlow is an error with both numbers", async (t) => {
  const root = (space: string): string =>
    systemFiles(t, { "proc/self/limits": LIMITS("1024", space), "proc/self/status": "VmSize:\t 1000000 kB\n" });
  assert.equal(readLimit("Max open files", root("unlimited")), 1024);
  const check = async (space: string, tensorflow: boolean): Promise<void> =>
    requireProcessLimits({ threads: 3, tensorflow }, "use fewer --readers", root(space));
  await check("unlimited", true);
  await check("3300000000", false);
  const error = await failsWith(check("3200000000", false), "OUT_OF_MEMORY");
  assert.equal(
    error.message,
    "the limit of the address space (ulimit -v) is too low for 3 threads (expected at least 3197266 kB, found 3125000 kB). Raise it: ulimit -v unlimited; or use fewer --readers.",
  );
  await failsWith(check("5200000000", true), "OUT_OF_MEMORY");
  const many = async (): Promise<void> => requireProcessLimits({ threads: 100 }, "use fewer --readers", root("unlimited"));
  const files = await failsWith(many(), "FILE_UNREADABLE");
  assert.equal(
    files.message,
    "the limit of open files (ulimit -n) is too low for 100 threads (expected at least 1064, found 1024). Raise the limit of open files: ulimit -n 4096; or use fewer --readers.",
  );
});
