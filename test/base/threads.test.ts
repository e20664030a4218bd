import assert from "node:assert/strict";
import { cpus } from "node:os";
import { type TestContext, test } from "node:test";
import { chooseThreads, countReaders, explainThreads, type Threads } from "../../src/base/threads.js";
import { systemFiles } from "../helpers/files.js";

/** The files of a machine with 16 CPUs. */
const MACHINE = {
  "sys/devices/system/cpu/online": "0-7,16-23\n",
  "proc/self/status": "Name:\tnode\nCpus_allowed:\tffffffff\nCpus_allowed_list:\t0-31\nMems_allowed_list:\t0\n",
  "proc/self/cgroup": "0::/\n",
};

/** Chooses with these files besides MACHINE's, and returns the warnings too. */
function choose(
  t: TestContext,
  files: Record<string, string>,
  { flag = null as number | null, omp = undefined as string | undefined } = {},
) {
  const warnings: string[] = [];
  const environment = omp === undefined ? {} : { OMP_NUM_THREADS: omp };
  const threads = chooseThreads(flag, (message) => warnings.push(message), { environment, root: systemFiles(t, { ...MACHINE, ...files }) });
  return { ...threads, warnings };
}

const QUOTA = { "sys/fs/cgroup/cpu.max": "150000 100000\n" };

test("--threads, then OMP_NUM_THREADS, then the quota set the number of threads", (t) => {
  const shown = (options: Parameters<typeof choose>[2], files = {}) => {
    const { warnings, ...threads } = choose(t, files, options);
    assert.deepEqual([warnings, threads.cpus], [[], 16]);
    return [threads.count, threads.setBy];
  };
  assert.deepEqual(shown({}), [16, null]);
  assert.deepEqual(shown({ flag: 3, omp: "4" }, QUOTA), [3, "--threads"]);
  assert.deepEqual(shown({ flag: 32 }), [32, "--threads"]);
  assert.deepEqual(shown({ omp: "4" }, QUOTA), [4, "OMP_NUM_THREADS"]);
  assert.deepEqual(shown({ omp: " 4 , 2" }), [4, "OMP_NUM_THREADS"]);
  assert.deepEqual([shown({ omp: "1" })[0], shown({ omp: "1024" })[0]], [1, 1024]);
  assert.deepEqual(shown({}, QUOTA), [2, "cpu.max"]);
});

test("an invalid OMP_NUM_THREADS is ignored with a warning", (t) => {
  for (const omp of ["0", "-1", "", "4,", "4,x", "1.5", "1e3", "1025", "auto"]) {
    const { count, setBy, warnings } = choose(t, QUOTA, { omp });
    assert.deepEqual([count, setBy, warnings.length], [2, "cpu.max", 1], omp);
  }
  const { warnings } = choose(t, {}, { omp: "4,x" });
  assert.deepEqual(warnings, ["ignored the environment variable OMP_NUM_THREADS: expected an integer from 1 to 1024, found 4,x"]);
  assert.deepEqual(choose(t, {}, { omp: "0", flag: 2 }).warnings, []);
});

test("the affinity mask limits the number of threads; offline CPUs in it do not count", (t) => {
  const masked = choose(t, { "proc/self/status": "Cpus_allowed_list:\t2,4-5\n" });
  assert.deepEqual([masked.count, masked.cpus, masked.setBy], [3, 16, "CPU affinity"]);
  const both = choose(t, { "proc/self/status": "Cpus_allowed_list:\t1\n", ...QUOTA });
  assert.deepEqual([both.count, both.setBy], [1, "CPU affinity"]);
});

test("the lowest quota of the cgroup and its ancestors counts, in version 2 and 1", (t) => {
  const counts = (files: Record<string, string>) => {
    const { count, setBy } = choose(t, files);
    return [count, setBy];
  };
  const group = { "proc/self/cgroup": "0::/job/step\n" };
  assert.deepEqual(counts({ ...group, "sys/fs/cgroup/job/step/cpu.max": "max 100000\n", "sys/fs/cgroup/job/cpu.max": "300000 100000\n" }), [
    3,
    "cpu.max",
  ]);
  assert.deepEqual(counts({ ...group, "sys/fs/cgroup/job/step/cpu.max": "20000 100000\n" }), [1, "cpu.max"]);
  assert.deepEqual(counts({ ...group, "sys/fs/cgroup/job/step/cpu.max": "1 1\n" }), [1, "cpu.max"]);
  for (const quota of ["9900000 100000", "1600000 100000", "100000 0", "100000"]) {
    assert.deepEqual(counts({ ...group, "sys/fs/cgroup/job/step/cpu.max": `${quota}\n` }), [16, null], quota);
  }
  const first = { "proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n0::/\n" };
  const limited = (folder: string, quota: string) => ({
    ...first,
    [`sys/fs/cgroup/cpu/${folder}cpu.cfs_quota_us`]: `${quota}\n`,
    [`sys/fs/cgroup/cpu/${folder}cpu.cfs_period_us`]: "50000\n",
  });
  assert.deepEqual(counts(limited("docker/abc/", "110000")), [3, "cpu.cfs_quota_us"]);
  // In the container, the group is mounted as the root.
  assert.deepEqual(counts(limited("", "100000")), [2, "cpu.cfs_quota_us"]);
  assert.deepEqual(counts(limited("", "-1")), [16, null]);
  assert.deepEqual(counts({ ...limited("", "100000"), "sys/fs/cgroup/cpu.max": "200000 100000\n" }), [2, "cpu.max"]);
});

test("on this machine, the number of threads is at most that of its CPUs", () => {
  const { count, cpus: machine } = chooseThreads(null, assert.fail, { environment: {} });
  assert.equal(machine, cpus().length);
  assert.ok(count >= 1 && count <= machine, String(count));
});

test("explains the number of threads; by default there is 1 reader, and 2 if more than 4 threads compute", () => {
  const threads: Threads = { count: 1, cpus: 16, setBy: "cpu.max" };
  assert.equal(explainThreads(threads), "1 thread on 16 CPUs (cpu.max)");
  assert.equal(explainThreads({ count: 4, cpus: 1, setBy: "--threads" }), "4 threads on 1 CPU (--threads)");
  assert.deepEqual(
    [1, 4, 5, 16].map((count) => countReaders(null, { ...threads, count })),
    [1, 1, 2, 2],
  );
  assert.equal(countReaders(7, threads), 7);
});
