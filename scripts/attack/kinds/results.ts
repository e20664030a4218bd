import { escapeJson } from "../../../src/base/shown-value.js";
import type { Attempt } from "../attempt.js";
import { CONFIG, LIST, RESULTS, SNAPSHOT } from "../base.js";
import { ESCAPES, gzipBomb, HOSTILE_TEXT, op, pickle, repeat } from "../bytes.js";

const MILLION = 1_000_000;
const line = (id: string, score = 0.5): string => `${JSON.stringify({ id, predictions: [{ class: 1, probability: score }] })}\n`;
const csv = (...rows: readonly string[]): string => `VideoId,LabelConfidencePairs\n${rows.join("\n")}\n`;
const list = (...items: readonly Uint8Array[]): Buffer => Buffer.concat([op.list, op.mark, ...items, op.appends]);
const prediction = (id: Uint8Array, score: Uint8Array, label: Uint8Array): Buffer =>
  Buffer.concat([op.mark, id, list(score), list(label), op.tuple]);
const good = prediction(op.text("clip"), op.float(0.5), op.int(1));

/** Hostile result files, by file name and description. */
const FILES: Readonly<Record<string, Readonly<Record<string, () => string | Uint8Array>>>> = {
  "in.csv": {
    "empty file": () => "",
    "escapes in the header": () => ESCAPES,
    "a probability of 1.5 and of -0.5": () => csv("clip,1 1.5 2 -0.5"),
    "a probability of NaN": () => csv("clip,1 NaN 2 Infinity"),
    "a probability of 1e400": () => csv("clip,1 1e400"),
    "a class of 2^53": () => csv("clip,9007199254740993 0.5"),
    "a class of -1": () => csv("clip,-1 0.5"),
    "a class with escapes": () => csv(`clip,\x1b[2J 0.5`),
    "a row of 20 MB": () => csv(`clip,${"1 0.5 ".repeat(3_500_000)}`),
    "an open quote": () => csv(`"clip${"x\n".repeat(MILLION)}`),
    "the same video twice": () => csv("clip,1 0.5", "clip,1 0.5"),
    "the same class twice": () => csv("clip,1 0.5 1 0.6"),
    "an odd number of values": () => csv("clip,1 0.5 2"),
    "a formula as an id": () => csv("=1+1,1 0.5"),
  },
  "in.jsonl": {
    "empty lines": () => "\n".repeat(MILLION),
    "nested 500,000 deep": () => `${"[".repeat(500_000)}\n`,
    "a line of 30 MB": () => line("x".repeat(30 * MILLION)),
    "a key __proto__": () => '{"__proto__":{"id":"x"},"id":"clip","predictions":[]}\n',
    "predictions that are text": () => `{"id":"clip","predictions":${JSON.stringify(ESCAPES)}}\n`,
    "a probability of 1e400": () => '{"id":"clip","predictions":[{"class":1,"probability":1e400}]}\n',
    "a raw escape in a string": () => '{"id":"a\x1b[2Jb","predictions":[]}\n',
    ...Object.fromEntries(Object.entries(HOSTILE_TEXT).map(([name, id]) => [`the id is ${name}`, () => line(id, 7)])),
  },
  "in.pkl": {
    "not a list": () => pickle(op.dict),
    "3,000,000 None": () => pickle(op.list, op.mark, Buffer.alloc(3 * MILLION, op.none), op.appends),
    "the same video 2,000,000 times": () => pickle(good, op.put(1), list(repeat(op.get(1), 2 * MILLION))),
    "a probability that is text": () => pickle(list(prediction(op.text(ESCAPES), op.text(ESCAPES), op.int(1)))),
    "a class of 2^31": () => pickle(list(prediction(op.text("clip"), op.float(0.5), op.float(2 ** 31)))),
    "os.system": () => pickle(op.global("os", "system"), op.mark, op.text("touch ../canary/owned"), op.tuple, op.reduce),
    "gzip bomb: 2 GiB of text": () => gzipBomb(Buffer.concat([op.proto(2), op.list, Buffer.from("X\xff\xff\xff\x7f", "latin1")]), 2048),
    "lists nested 1,000,000 deep": () => pickle(Buffer.alloc(MILLION, op.list), Buffer.alloc(MILLION - 1, op.append)),
  },
};

const ENSEMBLE = (...files: readonly string[]): readonly string[] => [
  "ensemble",
  ...files,
  "--save-dir",
  "out",
  "--format",
  "pickle,csv,jsonl",
];

/** A line of a log, in which control characters are escaped, as in those of nextvlad. */
const logLine = (facts: object): string => `${escapeJson(JSON.stringify(facts))}\n`;

/** Hostile files in a directory that `report` reads, by file name and description. */
const REPORTED: Readonly<Record<string, Readonly<Record<string, () => string | Uint8Array>>>> = {
  "in/train.log.jsonl": {
    "empty file": () => "",
    "escapes in a warning": () => logLine({ level: 40, msg: `${ESCAPES}</script><script>` }),
    "nested 500,000 deep": () => `${"[".repeat(500_000)}\n`,
    "numbers that are text": () => logLine({ step: ESCAPES, epoch: "x", loss: {}, learning_rate: [] }),
    "a key __proto__": () => '{"__proto__":{"step":1},"step":1e308,"learning_rate":1e308,"loss":1e308}\n',
    "400,000 steps": () => Array.from({ length: 400_000 }, (_, i) => `{"step":${i},"learning_rate":1,"loss":${i}}\n`).join(""),
    "400,000 runs of a step": () => '{"step":0,"learning_rate":1,"epoch":0}\n'.repeat(400_000),
    "a line of 30 MB": () => "x".repeat(30 * MILLION),
  },
  "in/NEXTVLAD_eval_diagnostics.json": {
    "empty file": () => "",
    "nested 500,000 deep": () => "[".repeat(500_000),
    "a file of 30 MB": () => `{"diagnostics_version":1,"aps":[${"0,".repeat(15 * MILLION)}0]}`,
    "a version with escapes": () => JSON.stringify({ diagnostics_version: ESCAPES }),
    "a key with escapes": () => JSON.stringify({ diagnostics_version: 1, metrics: { [ESCAPES]: ESCAPES } }),
  },
};

/** Values of `--weights`. */
const SHARES: Readonly<Record<string, string>> = {
  "two of 1e308": "1e308,1e308",
  "two of 1e-320": "1e-320,1e-320",
  NaN: "NaN,1",
  Infinity: "Infinity,1",
  "-0": "-0,-0",
  hexadecimal: "0x10,1",
  "10,000 numbers": Array.from({ length: 10_000 }, () => "1").join(","),
  escapes: `${ESCAPES},1`,
};

/** Files of label names. */
const NAMES: Readonly<Record<string, string | Uint8Array>> = {
  escapes: `${ESCAPES}\n`.repeat(6),
  "1,000,000 names": "x\n".repeat(MILLION),
  "a name of 10 MB": "x".repeat(10 * MILLION),
  "an open quote": `Index,Name\n0,"${"x\n".repeat(100_000)}`,
  "not UTF-8": Buffer.from("\xff\xfe\n".repeat(6), "latin1"),
};

export const resultAttempts: readonly Attempt[] = [
  ...Object.entries(REPORTED).flatMap(([file, contents]) =>
    Object.entries(contents).map(
      ([name, make]): Attempt => ({
        kind: "results",
        name: `${file}: ${name}`,
        prepare: (place) => place.file(file, make()),
        args: ["report", "in", "--out", "out/report.html"],
        exits: [0, 1],
      }),
    ),
  ),
  ...Object.entries(FILES).flatMap(([file, contents]) =>
    Object.entries(contents).map(
      ([name, make]): Attempt => ({
        kind: "results",
        name: `${file}: ${name}`,
        prepare: (place) => place.file(file, make()),
        args: ENSEMBLE(file, file),
        ...(/bomb|\d,000,000/.test(name) ? { isSlow: true } : {}),
        ...(/1\.5|NaN|1e400/.test(name) ? { exits: [1, 2] } : {}),
      }),
    ),
  ),
  ...Object.entries(SHARES).map(
    ([name, shares]): Attempt => ({
      kind: "results",
      name: `weights: ${name}`,
      args: [...ENSEMBLE(`${RESULTS}.pkl`, `${RESULTS}.csv`), "--weights", shares],
      ...(/1e-320|1e308/.test(name) ? {} : { exits: [0, 2] }),
    }),
  ),
  ...Object.entries(NAMES).map(
    ([name, content]): Attempt => ({
      kind: "results",
      name: `class names: ${name}`,
      prepare: (place) => place.file("names.txt", content),
      args: ["ensemble", `${RESULTS}.pkl`, "--save-dir", "out", "--format", "jsonl", "--labels", "names.txt"],
    }),
  ),
  {
    kind: "results",
    name: "a FIFO",
    prepare: (place) => place.fifo("in.pkl"),
    args: ENSEMBLE("in.pkl", "in.pkl"),
    mayWait: true,
    signals: [{ name: "SIGTERM", afterMs: 6000 }],
    exits: [1, 2, 143, "SIGKILL"],
  },
  {
    kind: "results",
    name: "the same file 1,000 times",
    args: ENSEMBLE(...Array.from({ length: 1000 }, () => `${RESULTS}.csv`)),
    isSlow: true,
  },
  { kind: "results", name: "the weights as a result file", args: ENSEMBLE(`${SNAPSHOT}/weights.safetensors`) },
  {
    kind: "results",
    name: "results of other videos than the shards'",
    args: [...ENSEMBLE(`${RESULTS}.pkl`), "--filelist", "../base/a.tfrecord", "--config", CONFIG],
  },
  {
    kind: "results",
    name: "results with metrics",
    args: [...ENSEMBLE(`${RESULTS}.pkl`), "--filelist", LIST, "--config", CONFIG],
    exits: [0],
  },
];
