import { constants } from "node:os";
import type { Attempt, ExitStatus, SentSignal } from "../attempt.js";
import { CONFIG, LIST, SNAPSHOT } from "../base.js";
import { records, repeat, video } from "../bytes.js";

/** Writes shards that keep a command busy for some seconds. */
const prepare: NonNullable<Attempt["prepare"]> = (place) => {
  const shard = repeat(records(video({ frames: 20 })), 3000);
  const names = Array.from({ length: 8 }, (_, i) => `in/${i}.tfrecord`);
  for (const name of names) place.file(name, shard);
  place.file("in.list", `${names.join("\n")}\n`);
};

const RUN = ["--weights", SNAPSHOT, "--filelist", "in.list", "--save-dir", "out"];
const COMMANDS: Readonly<Record<string, Pick<Attempt, "args" | "prepare">>> = {
  train: { args: ["train", "--config", CONFIG, "--save-dir", "out", "--epoch", "2000", "--log-interval", "1"] },
  eval: { args: ["eval", ...RUN], prepare },
  infer: { args: ["infer", ...RUN, "--batch-size", "1"], prepare },
  convert: { args: ["convert", "--to", "pkl", "--filelist", "in.list", "--out", "out"], prepare },
  verify: { args: ["verify", "in.list", "--config", CONFIG, "--readers", "1"], prepare },
};
/** Commands that install no signal handlers: the default action terminates them. */
const SIMPLE: Readonly<Record<string, readonly string[]>> = {
  digits: ["digits", "--out", "out", "--train-videos", "3000"],
  export: ["export", "--weights", SNAPSHOT, "--format", "npz", "--out", "out/x.npz"],
};

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const codeOf = (name: NodeJS.Signals): number => 128 + constants.signals[name];
/** The command may finish before the signal, or receive it before the handler is installed. */
const ends = (name: NodeJS.Signals): readonly ExitStatus[] => [0, 1, codeOf(name), name];

/** Sends the signal after the first output: the command handles signals from then on. */
const onceItSpeaks = (name: NodeJS.Signals, afterMs: number): SentSignal => ({ name, afterMs, when: /\w/ });

/** Signals and their expected exits, by description. */
const SENT: Readonly<Record<string, Pick<Attempt, "signals" | "exits">>> = {
  ...Object.fromEntries(
    SIGNALS.map((name) => [`${name} while it works`, { signals: [onceItSpeaks(name, 200)], exits: [0, 1, codeOf(name)] }]),
  ),
  ...Object.fromEntries(
    [0, 60, 150].map((afterMs) => [
      `SIGTERM ${afterMs} ms after the start`,
      { signals: [{ name: "SIGTERM", afterMs }], exits: ends("SIGTERM") },
    ]),
  ),
  "SIGTERM twice": { signals: [onceItSpeaks("SIGTERM", 200), onceItSpeaks("SIGTERM", 900)], exits: ends("SIGTERM") },
  "SIGUSR1, SIGPIPE and SIGWINCH, then SIGTERM": {
    signals: [onceItSpeaks("SIGUSR1", 200), onceItSpeaks("SIGPIPE", 250), onceItSpeaks("SIGWINCH", 300), onceItSpeaks("SIGTERM", 500)],
    exits: [0, 1, 143],
  },
};

export const signalAttempts: readonly Attempt[] = [
  ...Object.entries(COMMANDS).flatMap(([command, what]) =>
    Object.entries(SENT).map(([name, sent]): Attempt => ({ kind: "signal", name: `${name}: ${command}`, ...what, ...sent })),
  ),
  ...Object.entries(SIMPLE).flatMap(([command, args]) =>
    [100, 400, 1000].map(
      (afterMs): Attempt => ({
        kind: "signal",
        name: `SIGTERM ${afterMs} ms after the start: ${command}`,
        args,
        signals: [{ name: "SIGTERM", afterMs }],
        exits: ends("SIGTERM"),
      }),
    ),
  ),
  ...(["train", "infer", "verify"] as const).map((command): Attempt => {
    const first = { name: "a.tfrecord", bytes: records(video(), video({ id: "clip2" })) };
    const args = {
      train: ["train", "--config", CONFIG, "--set", "TRAIN.filelist=in.list", "--save-dir", "out", "--batch-size", "1"],
      infer: RUN.concat(),
      verify: ["in.list", "--config", CONFIG],
    }[command];
    return {
      kind: "signal",
      name: `SIGTERM while a read never returns: ${command}`,
      prepare: (place) => {
        place.file(first.name, first.bytes);
        place.fifo("never.tfrecord");
        place.file("in.list", `${first.name}\nnever.tfrecord\n`);
      },
      args: command === "train" ? args : [command, ...args],
      mayWait: true,
      signals: [{ name: "SIGTERM", afterMs: 6000 }],
      exits: [0, 1, 2, 143, 137, "SIGKILL"],
    };
  }),
  {
    kind: "signal",
    name: "SIGCONT and SIGSTOP: infer",
    args: ["infer", "--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "out"],
    signals: [
      { name: "SIGSTOP", afterMs: 300 },
      { name: "SIGCONT", afterMs: 1500 },
    ],
    exits: [0],
  },
];
