import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { type Check, type Diagnosis, diagnose } from "../../src/inspection/doctor.js";
import { writeAudioSet } from "../helpers/audioset.js";
import { corruptData } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { repository, runInTerminal, runProgram, spawnNextvlad } from "../helpers/nextvlad.js";
import { writeShards } from "../helpers/shards.js";

const checkOf = ({ checks }: Pick<Diagnosis, "checks">, name: string): Check => {
  const found = checks.find((check) => check.name === name);
  assert.ok(found !== undefined, `no check ${name}`);
  return found;
};

/** Writes files below a folder that stands for /. */
function writeRoot(root: string, files: Readonly<Record<string, string>>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n";

describe("nextvlad doctor", () => {
  test("reports versions, device, speed, limits and a shard's rate, as text and as JSON", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), [30]);
    const text = await spawnNextvlad(["doctor", shards[0] as string]);
    assert.equal(text.exitCode, 0, text.stderr);
    assert.match(text.stdout, /^nextvlad \d+\.\d+\.\d+ \(tfjs-node-gpu .*, TensorFlow .*, Node\.js .*\)\n/);
    assert.match(text.stdout, /^ok +TensorFlow +2\.\d+\.\d+$/m);
    assert.match(text.stdout, /^ok +device +computing on the (?:CPU at level \w+|GPU) \(/m);
    assert.match(text.stdout, /matrix product +\d+ GFLOP\/s/);
    assert.match(text.stdout, /^ok +shard +\S+: 30 videos, .* videos\/s, /m);
    assert.match(text.stdout, /^training works on this machine$/m);
    const { exitCode, stdout } = await spawnNextvlad(["doctor", "--json"]);
    assert.equal(exitCode, 0);
    const report = JSON.parse(stdout) as Diagnosis & { readonly works: boolean; readonly tensorflow: Diagnosis["probe"] };
    assert.equal(report.works, true);
    assert.ok((report.tensorflow?.gigaflops ?? 0) > 0.1);
    assert.equal(
      report.checks.some(({ name }) => name === "shard"),
      false,
    );
  });

  test("fits a narrow terminal", async () => {
    const { exitCode, stdout } = await runInTerminal(["doctor"], 60);
    assert.equal(exitCode, 0, stdout);
    const checks = stdout.trimEnd().split("\n").slice(1);
    assert.ok(checks.length > 10, stdout);
    // The path of this directory may be longer than a line.
    for (const line of checks) assert.ok(line.length <= 60 || line.includes(repository), line);
  });

  test("finds the problem of a set-up that is missing or broken, and what setup needs", async (t) => {
    const folder = temporaryFolder(t);
    cpSync(join(repository, "dist/src"), join(folder, "dist/src"), { recursive: true });
    for (const path of ["package.json", "scripts/tensorflow/cpu.txt"]) cpSync(join(repository, path), join(folder, path));
    symlinkSync(join(repository, "node_modules"), join(folder, "node_modules"));
    const doctor = (path: string) =>
      runProgram(process.execPath, [join(folder, "dist/src/nextvlad.cjs"), "doctor"], { env: { ...process.env, PATH: path } });
    const missing = await doctor(join(folder, "none"));
    assert.equal(missing.exitCode, 1);
    assert.match(
      missing.stdout,
      /^PROBLEM +TensorFlow +TensorFlow's library cannot be loaded: Cannot find module .*\n +help: run: nextvlad setup$/m,
    );
    assert.match(missing.stdout, /^PROBLEM +compiler +g\+\+ --version fails, which setup needs\n +help: apt-get install g\+\+$/m);
    assert.match(missing.stdout, /^PROBLEM +Python's pip +.*\n +help: apt-get install python3 python3-pip$/m);
    assert.match(missing.stdout, /^training does not work on this machine$/m);
    const current = join(folder, ".native/current");
    mkdirSync(current, { recursive: true });
    for (const name of readdirSync(join(repository, ".native/current")).filter((name) => name !== "tfjs_binding.node"))
      symlinkSync(join(repository, ".native/current", name), join(current, name));
    const binding = readFileSync(join(repository, ".native/current/tfjs_binding.node"));
    for (const [content, found] of [
      [
        "not a library".repeat(100),
        /^PROBLEM +TensorFlow +.*tfjs_binding\.node: invalid ELF header\n +help: .*rm -rf \S+\/\.native, then nextvlad setup$/m,
      ],
      // The signal ends the process that loads it, not the doctor.
      [
        binding.subarray(0, 5000),
        /^PROBLEM +TensorFlow +.*(?:file too short|ended: SIG(?:BUS|SEGV)).*\n +help: .*rm -rf \S+\/\.native, then nextvlad setup$/m,
      ],
    ] as const) {
      writeFileSync(join(current, "tfjs_binding.node"), content);
      const broken = await doctor(process.env.PATH ?? "");
      assert.equal(broken.exitCode, 1);
      assert.match(broken.stdout, found);
    }
  });

  test("with a driver, says why the GPU is not used", async (t) => {
    const folder = temporaryFolder(t);
    const gpu = { "proc/driver/nvidia/version": DRIVER, "proc/driver/nvidia/gpus/0000:01:00.0/information": "" };
    const root = writeRoot(join(folder, "root"), gpu);
    const native = join(folder, "native");
    const ofGpu = async (environment: NodeJS.ProcessEnv = {}) =>
      checkOf(
        await diagnose(null, { root, native, environment: { ...process.env, CUDA_VISIBLE_DEVICES: undefined, ...environment } }),
        "GPU",
      );
    const cpuBuild = await ofGpu();
    assert.equal(cpuBuild.status, "warning");
    assert.match(cpuBuild.found, /^NVIDIA driver 550\.54\.15, 1 visible device, but setup has installed the CPU build/);
    assert.match(cpuBuild.remedy ?? "", /^NEXTVLAD_DEVICE=gpu /);
    for (const [wheel, name] of [
      ["cuda_runtime", "libcudart.so.12"],
      ["cublas", "libcublas.so.12"],
    ] as const) {
      mkdirSync(join(native, "gpu/nvidia", wheel, "lib"), { recursive: true });
      writeFileSync(join(native, "gpu/nvidia", wheel, "lib", name), "");
    }
    symlinkSync("gpu", join(native, "current"));
    const incomplete = await ofGpu();
    assert.match(incomplete.found, /CUDA libraries are missing: libcublasLt\.so\.12, libcufft\.so\.11, .*libcudnn\.so\.9, libnccl\.so\.2$/);
    assert.match((await ofGpu({ CUDA_VISIBLE_DEVICES: "-1" })).remedy ?? "", /CUDA_VISIBLE_DEVICES/);
  });

  test("reads a shard whose feature lists have other names", async (t) => {
    const folder = temporaryFolder(t);
    writeAudioSet(folder);
    const { status, found } = checkOf(await diagnose(join(folder, "eval/00.tfrecord")), "shard");
    assert.equal(status, "ok", found);
    assert.match(found, /00\.tfrecord: 8 videos, /);
  });

  test("finds an old Node.js, a low limit of open files, little memory, and a corrupt shard", async (t) => {
    const folder = temporaryFolder(t);
    const root = writeRoot(join(folder, "root"), {
      "proc/meminfo": "MemTotal: 2000000 kB\nMemAvailable: 1000000 kB\nSwapFree: 0 kB\n",
      "proc/self/limits": "Max open files            60                   60                   files\n",
    });
    const { shards } = await writeShards(folder, [5]);
    corruptData(shards[0] as string, 3);
    const diagnosis = await diagnose(shards[0] as string, { root, nodeVersion: "18.20.8" });
    assert.deepEqual(
      ["Node.js", "memory", "open files", "shard"].map((name) => checkOf(diagnosis, name).status),
      ["problem", "warning", "problem", "problem"],
    );
    assert.match(checkOf(diagnosis, "Node.js").found, /^18\.20\.8 \(expected 20, 22 or 24\)$/);
    assert.match(checkOf(diagnosis, "memory").found, /^1\.02 GB available/);
    assert.match(checkOf(diagnosis, "shard").found, /record 3.*checksum/);
    const missing = await diagnose(join(folder, "none.tfrecord"), {});
    assert.match(checkOf(missing, "shard").found, /not found|does not exist|cannot/);
  });
});
