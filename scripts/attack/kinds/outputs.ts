import type { Attempt } from "../attempt.js";
import { CONFIG, LIST, MODEL, RESULTS, SNAPSHOT } from "../base.js";
import { ESCAPES } from "../bytes.js";
import type { Workplace } from "../workplace.js";

/** A command that writes files, and one of the files. */
interface Writer {
  readonly args: readonly string[];
  readonly file: string;
}

const exportTo = (format: string, out: string, file = out): Writer => ({
  args: ["export", "--weights", SNAPSHOT, "--format", format, "--out", out],
  file,
});
const RUN = ["--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "out"];

const WRITERS: Readonly<Record<string, Writer>> = {
  "export npz": exportTo("npz", "out/x.npz"),
  "export safetensors": exportTo("safetensors", "out/x.safetensors"),
  "export onnx": exportTo("onnx", "out/x.onnx"),
  "export pdparams": exportTo("pdparams", "out/x", "out/x.pdparams"),
  average: { args: ["average", SNAPSHOT, SNAPSHOT, "--out", "out/x.safetensors"], file: "out/x.safetensors" },
  infer: { args: ["infer", ...RUN], file: "out/NEXTVLAD_infer_result.pkl" },
  "infer jsonl": { args: ["infer", ...RUN, "--format", "jsonl"], file: "out/NEXTVLAD_infer_result.jsonl" },
  eval: { args: ["eval", ...RUN], file: "out/NEXTVLAD_eval_result.json" },
  "eval full ranking": { args: ["eval", ...RUN, "--full-ranking"], file: "out/NEXTVLAD_eval_result.json" },
  train: { args: ["train", "--config", CONFIG, "--save-dir", "out"], file: "out/NEXTVLAD_epoch0" },
  ensemble: { args: ["ensemble", `${RESULTS}.pkl`, "--save-dir", "out"], file: "out/NEXTVLAD_ensemble_result.pkl" },
  convert: { args: ["convert", "--to", "pkl", "--filelist", LIST, "--out", "out"], file: "out/a.pkl" },
  report: { args: ["report", MODEL, "--out", "out/report.html"], file: "out/report.html" },
  digits: { args: ["digits", "--out", "out", "--train-videos", "2", "--validate-videos", "2"], file: "out/train.list" },
};

/** Returns the path of a command's log, or null if it has none. */
const logOf = (name: string): string | null =>
  /^(infer|eval|train|ensemble|convert)/.test(name) ? `out/${name.split(" ")[0]}.log.jsonl` : null;

/** A command that waits indefinitely must print a message and stop on SIGTERM. */
const wait = { mayWait: true, signals: [{ name: "SIGTERM", afterMs: 6000 }], exits: [1, 2, 143, "SIGTERM", "SIGKILL"] } as const;

/** What exists at the path of an output: how to create it, and the expected exits. */
const PLACES: Readonly<Record<string, (file: string) => Partial<Attempt>>> = {
  "a device node": (file) => ({ prepare: (place) => place.nullNode(file), keeps: [file], needs: "mknod" }),
  "a FIFO without a reader": (file) => ({ prepare: (place) => place.fifo(file), keeps: [file], ...wait, exits: [0, ...wait.exits] }),
  "a socket": (file) => ({ prepare: (place) => place.socket(file), keeps: [file], exits: [1, 2] }),
  "a directory": (file) => ({ prepare: (place) => place.file(`${file}/mine`, "mine"), keeps: [`${file}/mine`], exits: [0, 1, 2] }),
  "a link to a FIFO": (file) => ({
    prepare: (place) => {
      place.fifo("fifo");
      place.link(file, "../fifo");
    },
    keeps: ["fifo"],
    ...wait,
    exits: [0, ...wait.exits],
  }),
  "a link to a directory": (file) => ({ prepare: (place) => place.link(file, "../../canary/directory") }),
  "a dangling link": (file) => ({ prepare: (place) => place.link(file, "../missing/x"), targets: ["out", "missing"] }),
  "a link to itself": (file) => ({ prepare: (place) => place.link(file, file.replace(/.*\//, "")) }),
  "a planted link at the old temporary name": (file) => ({
    shell: `ln -s "$PWD/../canary/file" "out/.${file.replace(/.*\//, "")}.unfinished-$$"; exec "$@"`,
  }),
};

/** Unusual output paths; writing to them may succeed or fail. */
const ODD_FILES: Readonly<Record<string, string>> = {
  "a name with escapes": `out/${ESCAPES.replaceAll("/", "")}.npz`,
  "a name of 255 bytes": `out/${"x".repeat(251)}.npz`,
  "a name of 300 bytes": `out/${"x".repeat(300)}.npz`,
  "a path of 5,000 bytes": `out/${"x/".repeat(2500)}x.npz`,
  "the kernel's /proc": "/proc/self/x.npz",
  "the kernel's /sys": "/sys/x.npz",
  "below a file": "../canary/file/x.npz",
  "a directory": "out",
  "an empty name": "",
  "a name that is a dot": "out/.",
  "a name that ends in a slash": "out/x.npz/",
};

/** Commands that would replace the user's own files. */
const OWN_FILES: readonly Attempt[] = [
  {
    kind: "output",
    name: "convert into the directory of its own list",
    prepare: (place) => {
      place.copy("../base/a.tfrecord", "out/a.tfrecord");
      place.file("out/train.list", "a.tfrecord\n");
    },
    args: ["convert", "--to", "pkl", "--filelist", "out/train.list", "--out", "out"],
    keeps: ["out/train.list", "out/a.tfrecord"],
  },
  {
    kind: "output",
    name: "convert to the shards themselves",
    prepare: (place) => place.copy("../base/a.tfrecord", "out/a.tfrecord"),
    args: ["convert", "--to", "tfrecord", "--filelist", "out/a.tfrecord", "--out", "out"],
    keeps: ["out/a.tfrecord"],
  },
  {
    kind: "output",
    name: "convert next to a user's file with a shard's name",
    prepare: (place) => place.file("out/a.pkl", "mine"),
    args: ["convert", "--to", "pkl", "--filelist", LIST, "--out", "out"],
    keeps: ["out/a.pkl"],
  },
  {
    kind: "output",
    name: "digits next to a user's list",
    prepare: (place) => place.file("out/train.list", "mine\n"),
    args: ["digits", "--out", "out", "--train-videos", "2", "--validate-videos", "2"],
    keeps: ["out/train.list"],
  },
  {
    kind: "output",
    name: "export over the weights that it reads",
    prepare: (place) => place.copy(SNAPSHOT, "out/snapshot"),
    args: ["export", "--weights", "out/snapshot", "--format", "safetensors", "--out", "out/snapshot/weights.safetensors"],
    keeps: ["out/snapshot/state.json", "out/snapshot/config.yaml"],
    usesModel: true,
  },
  {
    kind: "output",
    name: "train next to a file with a snapshot's name",
    prepare: (place) => place.file("out/NEXTVLAD_epoch0", "mine"),
    args: ["train", "--config", CONFIG, "--save-dir", "out"],
    keeps: ["out/NEXTVLAD_epoch0"],
  },
  {
    kind: "output",
    name: "best is a link to a directory: train",
    prepare: (place) => place.link("out/best", "../../canary/directory"),
    args: ["train", "--config", CONFIG, "--save-dir", "out"],
  },
  {
    kind: "output",
    name: "partial results are a link to a directory: infer",
    prepare: (place) => place.link("out/NEXTVLAD_infer_result.partial", "../../canary/directory"),
    args: ["infer", ...RUN],
  },
  {
    kind: "output",
    name: "the lock is a link: train",
    prepare: (place) => place.link("out/.nextvlad.lock", "../../canary/file"),
    args: ["train", "--config", CONFIG, "--save-dir", "out"],
  },
  {
    kind: "output",
    name: "old temporary names that are links: train",
    prepare: (place) => {
      place.link("out/.best.unfinished-1", "../../canary/directory");
      place.link("out/.NEXTVLAD_epoch0.removed-1-old", "../../canary/directory");
      place.link("out/.x.unfinished-99999999", "../../canary");
    },
    args: ["train", "--config", CONFIG, "--save-dir", "out"],
  },
  {
    kind: "output",
    name: "planted links at the names of the events: train",
    shell:
      'for i in $(seq 0 20); do ln -s "$PWD/../canary/file" "out/events.out.tfevents.$(($(date +%s) + i)).$(hostname).$$.0"; done; exec "$@"',
    args: ["train", "--config", CONFIG, "--save-dir", "out"],
    exits: [0],
  },
  {
    kind: "output",
    name: "the save-dir is a link to another directory: infer",
    prepare: (place) => {
      place.file("elsewhere/mine", "mine");
      place.link("linked", "elsewhere");
    },
    args: ["infer", "--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "linked"],
    targets: ["elsewhere"],
    keeps: ["elsewhere/mine"],
    exits: [0],
  },
];

export const outputAttempts: readonly Attempt[] = [
  ...Object.entries(PLACES).flatMap(([name, surroundings]) =>
    Object.entries(WRITERS).map(
      ([command, { args, file }]): Attempt => ({ kind: "output", name: `${name}: ${command}`, args, ...surroundings(file) }),
    ),
  ),
  ...Object.entries(WRITERS).flatMap(([command, { args }]): readonly Attempt[] => {
    const log = logOf(command);
    if (log === null || command === "infer jsonl") return [];
    return [
      {
        kind: "output",
        name: `the log is a link to a file: ${command}`,
        prepare: (place) => place.link(log, "../../canary/file"),
        args,
        exits: [1, 2],
      },
      { kind: "output", name: `the log is a FIFO: ${command}`, prepare: (place) => place.fifo(log), args, keeps: [log], exits: [1, 2] },
    ];
  }),
  ...Object.entries(ODD_FILES).map(
    ([name, out]): Attempt => ({ kind: "output", name: `${name}: export`, args: exportTo("npz", out).args }),
  ),
  ...OWN_FILES,
  {
    kind: "output",
    name: "a FIFO with a reader: export npz",
    prepare: (place) => place.fifo("out/x.npz"),
    args: exportTo("npz", "out/x.npz").args,
    shell: 'cat out/x.npz > out/read & "$@"; code=$?; kill $! 2> /dev/null; wait; exit $code',
    keeps: ["out/x.npz"],
  },
];

/** Disks that cannot be written: full, out of inodes or read-only. */
const DISKS: Readonly<Record<string, (place: Workplace) => void>> = {
  "disk full": (place) => {
    place.disk("out", "size=16k");
    place.file("out/mine", Buffer.alloc(12_000));
  },
  "no inodes left": (place) => place.disk("out", "size=1m,nr_inodes=1"),
  "read-only": (place) => {
    place.disk("out", "size=1m");
    place.makeReadOnly("out");
  },
};

export const diskAttempts: readonly Attempt[] = Object.entries(DISKS).flatMap(([name, prepare]) =>
  Object.entries(WRITERS).map(
    ([command, { args }]): Attempt => ({
      kind: "disk",
      name: `${name}: ${command}`,
      prepare,
      args,
      // A model this small may fit into the few KB that are left.
      exits: name === "disk full" ? [0, 1] : [1],
      needs: "mount",
    }),
  ),
);
