import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { openLink } from "../../scripts/bench/link.js";
import { readEvents } from "../helpers/events.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, interruptNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { freePort } from "../helpers/ports.js";
import { prepareRun, readLog } from "../helpers/runs.js";

interface Trained {
  readonly losses: readonly number[];
  readonly gap: number;
  readonly arrays: readonly Buffer[];
}

/** Returns the warnings of a run that the last digits will differ. */
const roundingWarningsIn = (saveDir: string): readonly string[] =>
  readLog(saveDir).flatMap(({ msg }) => (String(msg).includes("the last digits will differ") ? [String(msg)] : []));

const lossesIn = (saveDir: string): readonly number[] =>
  readLog(saveDir).flatMap(({ tensors, loss }) => (tensors === undefined ? [] : [loss as number]));

async function train(saveDir: string, ...flags: string[]): Promise<Trained> {
  const { exitCode, stderr } = await spawnNextvlad(["train", "--save-dir", saveDir, "--log-interval", "1", ...flags]);
  assert.equal(exitCode, 0, stderr);
  const validations = readLog(saveDir).flatMap(({ msg, gap }) => (String(msg).startsWith("[VALID]") ? [gap as number] : []));
  const newest = readdirSync(saveDir)
    .filter((name) => name.startsWith("NEXTVLAD_epoch"))
    .sort()
    .at(-1) as string;
  const files = readdirSync(join(saveDir, newest)).filter((name) => name.endsWith(".safetensors"));
  const arrays = files.sort().map((name) => readFileSync(join(saveDir, newest, name)));
  return { losses: lossesIn(saveDir), gap: validations.at(-1) as number, arrays };
}

/** Asserts that losses are within 1e-5 for five steps, the bound for the same computation in another order of sums. */
function assertSameStart(losses: readonly number[], expected: readonly number[]): void {
  assert.equal(losses.length, expected.length);
  for (const [step, loss] of losses.slice(0, 5).entries())
    assert.ok(Math.abs(loss / (expected[step] as number) - 1) < 1e-5, `step ${step}: ${loss}, one process ${expected[step]}`);
}

/** A run whose processes a test can find. */
interface Started {
  readonly launcher: ChildProcess;
  readonly ended: Promise<{ readonly exitCode: number | null; readonly stderr: string }>;
  /** Returns the process IDs of the ranks, once there are `count` and rank 0 has logged a step. */
  ranks(count: number): Promise<readonly number[]>;
}

function start(args: readonly string[]): Started {
  const launcher = spawn(process.execPath, [compiled("nextvlad.cjs"), "train", "--log-interval", "1", ...args]);
  let stderr = "";
  launcher.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = once(launcher, "close").then(([exitCode]) => ({ exitCode: exitCode as number | null, stderr }));
  const ranks = async (count: number): Promise<readonly number[]> => {
    for (;;) {
      const children = readFileSync(`/proc/${launcher.pid}/task/${launcher.pid}/children`, "utf8")
        .trim()
        .split(" ")
        .filter(Boolean)
        .map(Number);
      if (children.length === count && /iter 3 /.test(stderr)) return children;
      assert.equal(launcher.exitCode, null, stderr);
      await setTimeout(50);
    }
  };
  return { launcher, ended, ranks };
}

/** Returns the addresses of the sockets at which processes listen, as /proc/net/tcp and tcp6 have them. */
function listeningAddresses(pids: readonly number[]): readonly string[] {
  const sockets = new Set(
    pids.flatMap((pid) =>
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
        } catch {
          return [];
        }
      }),
    ),
  );
  const LISTEN = "0A";
  return ["tcp", "tcp6"].flatMap((table) =>
    readFileSync(`/proc/net/${table}`, "utf8")
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === LISTEN && sockets.has(fields[9] ?? ""))
      .map((fields) => (fields[1] ?? "").split(":")[0] ?? ""),
  );
}

describe("training with several processes", () => {
  test("gives the losses of one process; all ranks have the same weights, and a run resumes on any number of them", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const onRanks = (name: string, devices: number, ...flags: string[]): Promise<Trained> =>
      train(join(folder, name), "--config", config, "--devices", String(devices), "--threads", "1", ...flags);
    const alone = await train(join(folder, "alone"), "--config", config, "--histogram-interval", "6");
    const onTwo = await onRanks("two", 2, "--histogram-interval", "6");
    const waitsIn = (name: string): readonly unknown[] =>
      readLog(join(folder, name)).flatMap(({ tensors, exchange_wait_seconds }) => (tensors === undefined ? [] : [exchange_wait_seconds]));
    assert.ok(waitsIn("alone").every((seconds) => seconds === undefined));
    assert.ok(waitsIn("two").every((seconds) => typeof seconds === "number" && seconds > 0));
    // The program itself checks after each epoch that the ranks have the same weights.
    for (const divided of [onTwo, await onRanks("three", 3), await onRanks("parts", 2, "--accumulate", "2")]) {
      assertSameStart(divided.losses, alone.losses);
      // Of 40 videos, after 12 steps.
      assert.ok(Math.abs(divided.gap - alone.gap) < 0.02, `GAP ${divided.gap}, one process ${alone.gap}`);
    }
    // The norm and the histogram of the hidden layer are those of all ranks' rows.
    const [ofOne = [], ofTwo = []] = ["alone", "two"].map((name) =>
      readLog(join(folder, name)).flatMap((entry) => (entry["gradient_norm/hidden1_fc_weights"] as number | undefined) ?? []),
    );
    assert.deepEqual([ofOne.length, ofTwo.length], [12, 12]);
    // A gradient amplifies the different rounding of the weights more than the loss does.
    for (const [step, norm] of ofTwo.slice(0, 5).entries()) assert.ok(Math.abs(norm / (ofOne[step] as number) - 1) < 1e-4, `step ${step}`);
    const histograms = ["alone", "two"].map((name) =>
      readEvents(join(folder, name)).flatMap(({ histograms }) => histograms["parameters/hidden1_fc_weights"] ?? []),
    );
    assert.deepEqual(histograms[0]?.length, 2);
    assert.deepEqual(histograms[1]?.[0], histograms[0]?.[0]);
    // Such small shards are read whole by each rank, once.
    const bytesRead = readLog(join(folder, "two")).flatMap(({ bytes_read }) => (bytes_read === undefined ? [] : [bytes_read]));
    const shardBytes = ["train0.tfrecord", "train1.tfrecord"].reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    assert.deepEqual(bytesRead, [
      [shardBytes, shardBytes],
      [0, 0],
    ]);
    // The norm of the hidden layer's gradient is that of all ranks' rows.
    const clipping = ["--set", "TRAIN.gradient_clip=0.1"];
    const clipped = await train(join(folder, "clipped-alone"), "--config", config, ...clipping);
    assertSameStart((await onRanks("clipped", 3, ...clipping)).losses, clipped.losses);
    assert.notDeepEqual(clipped.losses, alone.losses);
    await onRanks("resumed", 2, "--epoch", "1");
    for (const name of ["elsewhere", "in one"]) cpSync(join(folder, "resumed"), join(folder, name), { recursive: true });
    const resumed = await onRanks("resumed", 2, "--resume");
    assert.deepEqual(resumed.arrays, onTwo.arrays, "the same number of ranks repeats a run exactly");
    assert.deepEqual(roundingWarningsIn(join(folder, "resumed")), []);
    assertSameStart((await onRanks("elsewhere", 3, "--resume")).losses, onTwo.losses);
    await onRanks("in one", 1, "--resume", "--accumulate", "2");
    for (const [name, found, remedy] of [
      ["elsewhere", "1 thread, 3 ranks", "--devices 2"],
      ["in one", "1 thread, 2 parts", "--devices 2 and --accumulate 1"],
    ] as const) {
      const [warning = "", ...more] = roundingWarningsIn(join(folder, name));
      assert.match(
        warning,
        /^the snapshot was written with TensorFlow \S+ on the CPU \(level \w+, 1 thread, 2 ranks\), and this run uses /,
      );
      assert.ok(warning.endsWith(`, ${found}): the last digits will differ; to restore them, use ${remedy}`), warning);
      assert.deepEqual(more, []);
    }
  });

  test("EMA weights, validations inside epochs, early stopping and a limit of videos are those of one process, and resume exactly", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    // 4 steps per epoch, of 64 of 100 videos.
    const flags = [
      "--config",
      config,
      "--set",
      "TRAIN.ema_decay=0.5",
      "--valid-interval",
      "3steps",
      "--early-stop",
      "9",
      "--limit-videos",
      "64",
    ];
    const run = (name: string, ...more: string[]): Promise<Trained> => train(join(folder, name), ...flags, "--threads", "1", ...more);
    const validationsIn = (name: string): readonly number[][] =>
      readLog(join(folder, name)).flatMap(({ msg, step, videos, gap, ema_gap }) =>
        String(msg).startsWith("[VALID]") ? [[step, videos, gap, ema_gap] as number[]] : [],
      );
    const alone = await run("alone");
    const onTwo = await run("two", "--devices", "2");
    assert.equal(onTwo.losses.length, 8);
    assertSameStart(onTwo.losses, alone.losses);
    const [ofOne, ofTwo] = ["alone", "two"].map(validationsIn) as [number[][], number[][]];
    assert.deepEqual(
      ofTwo.map(([step, videos]) => [step, videos]),
      [
        [2, 40],
        [5, 40],
      ],
    );
    for (const [i, values] of ofTwo.entries())
      for (const [k, value] of values.entries()) assert.ok(Math.abs(value - (ofOne[i]?.[k] as number)) < 0.02, `${i} ${k}`);
    await run("parts", "--devices", "2", "--set", "TRAIN.max_iter=7");
    const resumed = await run("parts", "--devices", "2", "--set", "TRAIN.max_iter=700000", "--resume");
    assert.equal(resumed.arrays.length, 3);
    assert.deepEqual(resumed.arrays, onTwo.arrays);
  });

  test("a seed from the clock is that of all ranks; max_iter ends all of them; NaN losses are skipped by all", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const saveDir = join(folder, "run");
    // Of 6 steps per epoch, the last is the first of the second epoch. At this learning rate the weights diverge.
    const flags = ["--fix-random-seed", "False", "--set", "TRAIN.max_iter=7", "--valid-interval", "0"];
    const args = ["train", "--config", config, "--save-dir", saveDir, "--log-interval", "1", "--devices", "2", "--threads", "1"];
    const short = await spawnNextvlad([...args, ...flags]);
    assert.equal(short.exitCode, 0, short.stderr);
    assert.match(short.stdout, /train finished.*epochs: 1,\s+steps: 7/);
    const diverged = await spawnNextvlad([...args, "--overwrite", "--learning-rate", "1e30", "--on-nan", "skip-batch", "--epoch", "5"]);
    assert.equal(diverged.exitCode, 1, diverged.stderr);
    assert.match(diverged.stderr, /error\[NOT_FINITE\]/);
  });

  test("a batch smaller than the ranks' parts is an error", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const args = ["train", "--config", config, "--save-dir", join(folder, "run"), "--devices", "3", "--accumulate", "6"];
    const { exitCode, error } = await spawnNextvlad(args);
    assert.equal(exitCode, 2);
    assert.match(
      error,
      /TRAIN\.batch_size: the batch is too small for 3 processes, each with TRAIN\.accumulate = 6 parts \(expected at least 18, found 16\)/,
    );
  });

  test("SIGUSR1 and --save-interval save the rows of all ranks", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 2000 });
    const saveDir = join(folder, "run");
    const { launcher, ranks, ended } = start(["--config", config, "--save-dir", saveDir, "--devices", "2", "--save-interval", "40"]);
    await ranks(2);
    launcher.kill("SIGUSR1");
    const { exitCode, stderr } = await ended;
    assert.equal(exitCode, 0, stderr);
    const saved = readdirSync(saveDir).filter((name) => name.startsWith("NEXTVLAD_step"));
    assert.match(stderr, /SIGUSR1: saving, then continuing/);
    // At the interval, and at the signal.
    assert.ok(saved.length >= 2, String(saved));
    const args = ["eval", "--weights", join(saveDir, saved[0] as string), "--save-dir", join(folder, "eval")];
    const evaluated = await spawnNextvlad(args);
    assert.equal(evaluated.exitCode, 0, evaluated.stderr);
  });

  test("SIGTERM finishes the step on all ranks, saves and exits with 143", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 2000 });
    const saveDir = join(folder, "run");
    const { launcher, ranks, ended } = start(["--config", config, "--save-dir", saveDir, "--devices", "2"]);
    const [first] = await ranks(2);
    const addresses = listeningAddresses(await ranks(2));
    assert.equal(addresses.length, 2, String(addresses));
    for (const address of addresses) assert.match(address, /^(0000000000000000FFFF0000)?0100007F$/, "127.0.0.1 only");
    launcher.kill("SIGTERM");
    const { exitCode, stderr } = await ended;
    assert.equal(exitCode, 143, stderr);
    assert.match(stderr, /SIGTERM: finishing the step and saving/);
    assert.ok(readdirSync(saveDir).some((name) => name.startsWith("NEXTVLAD_step")));
    assert.throws(() => readlinkSync(`/proc/${first}/exe`), "no rank is left");
  });

  for (const [victim, signal, exitCodes, message] of [
    [1, "SIGKILL", [137], /rank 1 was killed by SIGKILL first/],
    [0, "SIGKILL", [137], /./],
    [1, "SIGSTOP", [1], /error\[RANK_FAILED\]: rank 1 \(127\.0\.0\.1:\d+\) does not respond/],
  ] as const) {
    test(`${signal} of rank ${victim} ends the run within 30 s`, async (t) => {
      const folder = temporaryFolder(t);
      const config = await prepareRun(folder, { trainVideos: 2000 });
      const saveDir = join(folder, "run");
      const { ranks, ended } = start([
        "--config",
        config,
        "--save-dir",
        saveDir,
        "--devices",
        "2",
        "--set",
        "TRAIN.epoch=1000",
        "--valid-interval",
        "0",
      ]);
      const pids = await ranks(2);
      const sinceMs = performance.now();
      process.kill(pids[victim] as number, signal);
      const { exitCode, stderr } = await ended;
      assert.ok(performance.now() - sinceMs < 30_000, stderr);
      assert.ok((exitCodes as readonly (number | null)[]).includes(exitCode), `${exitCode}: ${stderr}`);
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /GRPC/, "TensorFlow's own messages");
      for (const pid of pids) assert.throws(() => readlinkSync(`/proc/${pid}/exe`), "no rank is left");
    });
  }
});

describe("a cluster in TF_CONFIG", () => {
  /** Runs `train` as each rank of a cluster on this host. */
  async function trainCluster(ports: readonly number[], argsOf: (rank: number) => readonly string[]) {
    const worker = ports.map((port) => `127.0.0.1:${port}`);
    return Promise.all(
      worker.map((_, index) =>
        spawnNextvlad(["train", "--log-interval", "1", ...argsOf(index)], {
          env: { TF_CONFIG: JSON.stringify({ cluster: { worker }, task: { type: "worker", index } }) },
        }),
      ),
    );
  }

  test("trains; only rank 0 prints and writes", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const saveDir = join(folder, "run");
    const ranks = await trainCluster([await freePort(), await freePort()], () => [
      "--config",
      config,
      "--save-dir",
      saveDir,
      "--threads",
      "1",
    ]);
    for (const { exitCode, stderr } of ranks) assert.equal(exitCode, 0, stderr);
    assert.match(ranks[0]?.stdout ?? "", /train finished/);
    assert.equal(`${ranks[1]?.stdout}${ranks[1]?.stderr}`, "");
    const alone = await train(join(folder, "alone"), "--config", config, "--set", "TRAIN.num_gpus=4");
    assertSameStart(lossesIn(saveDir), alone.losses);
    const limit = readLog(join(folder, "alone")).find(({ msg }) => String(msg).startsWith("TRAIN.num_gpus = 4: "));
    assert.match(String(limit?.msg), /use_gpu is False, so one process trains on the CPU/);
  });

  test("whose ranks differ in the config, the seed or the shards, fails on all of them with what differs", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    for (const [flags, what] of [
      [["--fix-random-seed", "7"], /the seed/],
      [["--set", "MODEL.hidden_size=32"], /the config/],
      [["--filelist", join(folder, "train0.tfrecord")], /the training shards/],
    ] as const) {
      const given = flags[0] === "--filelist" ? ["--set", `TRAIN.filelist=${flags[1]}`] : flags;
      const ranks = await trainCluster([await freePort(), await freePort()], (rank) => [
        "--config",
        config,
        "--save-dir",
        join(folder, "run"),
        "--threads",
        "1",
        ...(rank === 1 ? given : []),
      ]);
      for (const { exitCode, error } of ranks) {
        assert.equal(exitCode, 1);
        assert.match(error, /^rank 1 \(127\.0\.0\.1:\d+\) differs from rank 0 in /);
        assert.match(error, what);
      }
    }
  });

  test("whose link is slow trains; if it is cut, both ranks end within 30 s and name each other", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const ports = [await freePort(), await freePort()] as const;
    // Each rank reaches the other one through a link.
    const links = await Promise.all(ports.map((port) => openLink(0, { host: "127.0.0.1", port }, 1)));
    t.after(() => {
      for (const link of links) link.close();
    });
    const ranks = ports.map((own, index) => {
      const worker = ports.map((_, rank) => `127.0.0.1:${rank === index ? own : links[rank]?.port}`);
      const env = { ...process.env, TF_CONFIG: JSON.stringify({ cluster: { worker }, task: { type: "worker", index } }) };
      const flags = ["--threads", "1", "--set", "TRAIN.epoch=100000", "--valid-interval", "0", "--keep", "1"];
      const args = ["train", "--log-interval", "1", "--config", config, "--save-dir", join(folder, "run"), ...flags];
      return { worker, ended: interruptNextvlad(args, "Epoch 1, iter 3 ", () => cut(), env) };
    });
    let cutMs = Number.NaN;
    const cut = (): void => {
      cutMs = performance.now();
      for (const link of links) link.cut();
    };
    for (const [rank, { worker, ended }] of ranks.entries()) {
      const { exitCode, output } = await ended;
      assert.equal(exitCode, 1, output);
      assert.match(output, new RegExp(`error\\[RANK_FAILED\\]: rank ${1 - rank} \\(${worker[1 - rank]}\\) does not respond`));
    }
    assert.ok(performance.now() - cutMs < 30_000);
  });

  test("whose port is in use is an error", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const server = createServer().listen(0, "0.0.0.0");
    await once(server, "listening");
    const { port } = server.address() as { readonly port: number };
    const TF_CONFIG = JSON.stringify({ cluster: { worker: [`127.0.0.1:${port}`, "127.0.0.1:9"] }, task: { type: "worker", index: 0 } });
    const failed = await spawnNextvlad(["train", "--config", config, "--save-dir", join(folder, "run")], { env: { TF_CONFIG } });
    server.close();
    assert.equal(failed.exitCode, 1);
    assert.match(failed.error, /TensorFlow's server for this rank cannot be started.*Check that its port is not in use/);
  });
});
