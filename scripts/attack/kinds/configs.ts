import { ANY_EXIT, type Attempt, BAD_USAGE, REFUSED } from "../attempt.js";
import { LIST, SHARD } from "../base.js";
import { BIDI, ESCAPES, HOSTILE_TEXT } from "../bytes.js";

const shown = JSON.stringify;

/** Config files. All commands read them with the same code as `verify`. */
const CONFIGS: Readonly<Record<string, () => string | Uint8Array>> = {
  "empty file": () => "",
  "a billion laughs by aliases": () => {
    const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array.from({ length: 10 }, () => `*l${i}`).join(", ")}]`);
    return `l0: &l0 x\n${levels.join("\n")}\nMODEL: *l12\n`;
  },
  "aliases inside a value": () => {
    const levels = Array.from(
      { length: 8 },
      (_, i) => `  k${i + 1}: &m${i + 1} {${Array.from({ length: 9 }, (_, j) => `x${j}: *m${i}`).join(", ")}}`,
    );
    return `MODEL:\n  k0: &m0 {a: 1}\n${levels.join("\n")}\n`;
  },
  "a mapping that contains itself": () => "MODEL: &m\n  a: *m\n",
  "recursive merge keys": () => `MODEL: &m\n  <<: *m\n`,
  "lists nested 50,000 deep": () => "[".repeat(50_000),
  "mappings nested 20,000 deep": () => `${"{a: ".repeat(20_000)}1${"}".repeat(20_000)}`,
  "blocks nested 2,000 deep": () => Array.from({ length: 2000 }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
  "two documents": () => "MODEL: {num_classes: 3}\n---\nTRAIN: {epoch: 1}\n",
  "1,000 documents": () => "---\nMODEL: {}\n".repeat(1000),
  "!!omap sections": () => "!!omap\n- MODEL: {num_classes: 12}\n",
  "a section that is !!omap": () => "MODEL: !!omap\n- num_classes: 12\n",
  "a section that is !!set": () => "MODEL: !!set\n  ? num_classes\n",
  "!!pairs": () => "MODEL: !!pairs\n- num_classes: 12\n",
  "!!binary": () => "MODEL: {num_classes: !!binary 'MTI='}\n",
  "!!js/function": () => "MODEL: !!js/function 'function () { process.exit(9) }'\n",
  "!!python/object": () => "MODEL: !!python/object/apply:os.system ['touch ../canary/owned']\n",
  "a tag with escapes": () => `MODEL: !<${shown("x\x1b[2J")}> {}\n`,
  "!!timestamp": () => "TRAIN: {epoch: !!timestamp 2001-12-14}\n",
  "__proto__ as a section": () => "__proto__: {num_classes: 12}\nconstructor: {prototype: {num_classes: 12}}\n",
  "__proto__ as a key": () => "MODEL: {__proto__: {num_classes: 12}}\n",
  "a key with escapes": () => `MODEL: {${shown(ESCAPES)}: 1, ${shown(BIDI)}: 2}\n`,
  "a section with escapes": () => `${shown(ESCAPES)}: {}\n`,
  "a raw escape": () => "MODEL:\n  \x1b[2Jname: x\n",
  "a raw escape in a comment": () => "MODEL:\n  num_classes: {} # \x1b[2J\x07\n",
  "a key of 1 MB": () => `MODEL: {${"x".repeat(1_000_000)}: 1}\n`,
  "an explicit key that is a list": () => "? [a, b]\n: 1\n",
  "100,000 unknown keys": () => `MODEL:\n${Array.from({ length: 100_000 }, (_, i) => `  key${i}: 1`).join("\n")}\n`,
  "the same key 10,000 times": () => `MODEL:\n${"  num_classes: 3\n".repeat(10_000)}`,
  "5 MB of one scalar": () => `MODEL:\n  name: "${"x".repeat(5_000_000)}"\n`,
  "5 MB of comments": () => "# x\n".repeat(1_250_000),
  "a number of 10,000 digits": () => `MODEL: {num_classes: ${"9".repeat(10_000)}}\n`,
  "1e400": () => "TRAIN: {learning_rate: 1e400}\n",
  ".nan and .inf": () => "TRAIN: {learning_rate: .nan, l2_penalty: .inf, learning_rate_decay: -.inf}\n",
  "1e-320": () => "TRAIN: {learning_rate: 1e-320}\n",
  "-0": () => "TRAIN: {learning_rate: -0.0, epoch: -0}\n",
  "hexadecimal, octal and base 60": () => "MODEL: {num_classes: 0x10, topk: 0o17, max_frames: 1:30}\n",
  "2^53 classes": () => "MODEL: {num_classes: 9007199254740992}\n",
  "text instead of numbers": () => `MODEL: {num_classes: ${shown(ESCAPES)}}\n`,
  "lists instead of numbers": () => "MODEL: {num_classes: [1], groups: {a: 1}}\n",
  "UTF-16": () => Buffer.from("\ufeffMODEL: {num_classes: 12}\n", "utf16le"),
  "not UTF-8": () => Buffer.from("MODEL: {name: \xff\xfe}\n", "latin1"),
  "a NUL": () => "MODEL: {name: 'a\0b'}\n",
  "tabs as indentation": () => "MODEL:\n\tnum_classes: 12\n",
  "a shard": () => Buffer.alloc(4096, 7),
  "%YAML 9.9": () => "%YAML 9.9\n---\nMODEL: {}\n",
  "a directive with escapes": () => "%FOO \x1b[2J\n---\nMODEL: {}\n",
  ...Object.fromEntries(
    Object.entries(HOSTILE_TEXT).map(([name, text]) => [`the model's name is ${name}`, () => `MODEL: {name: ${shown(text)}}\n`]),
  ),
  ...Object.fromEntries(
    Object.entries(HOSTILE_TEXT).map(([name, text]) => [`the eigen file is ${name}`, () => `MODEL: {eigen_file: ${shown(text)}}\n`]),
  ),
};

/** Values of `--set`. */
const SETTINGS: Readonly<Record<string, string>> = {
  "no key": "=1",
  "no value": "MODEL.num_classes=",
  "no section": "num_classes=1",
  __proto__: "__proto__.num_classes=1",
  "MODEL.__proto__": "MODEL.__proto__.x=1",
  "constructor.prototype": "MODEL.constructor.prototype.x=1",
  "1,000 dots": `MODEL${".a".repeat(1000)}=1`,
  "escapes in the key": `MODEL.${ESCAPES}=1`,
  "escapes in the value": `MODEL.name=${ESCAPES}`,
  "YAML in the value": "MODEL.num_classes=&a [*a]",
  "100,000 characters": `MODEL.name=${"x".repeat(100_000)}`,
  "1e400": "MODEL.num_classes=1e400",
  NaN: "MODEL.num_classes=NaN",
  "a list nested 5,000 deep": `MODEL.name=${"[".repeat(5000)}`,
};

/** Configs that must be rejected rather than read as an empty config with default values. */
const MUST_REFUSE = /omap|!!set|pairs|two documents|1,000 documents|__proto__ as|!!js|python/;

export const configAttempts: readonly Attempt[] = [
  ...Object.entries(CONFIGS).map(
    ([name, make]): Attempt => ({
      kind: "config",
      name,
      prepare: (place) => place.file("in.yaml", make()),
      args: ["verify", SHARD, "--config", "in.yaml"],
      exits: MUST_REFUSE.test(name) ? BAD_USAGE : ANY_EXIT,
    }),
  ),
  ...Object.entries(SETTINGS).map(
    ([name, setting]): Attempt => ({
      kind: "config",
      name: `--set ${name}`,
      args: ["verify", SHARD, "--set", setting],
      exits: BAD_USAGE,
    }),
  ),
  {
    kind: "config",
    name: "20,000,000 classes: train",
    args: [
      "train",
      "--config",
      "../base/config.yaml",
      "--set",
      "MODEL.num_classes=20000000",
      "--set",
      "MODEL.hidden_size=2048",
      "--save-dir",
      "out",
    ],
    exits: REFUSED,
    isSlow: true,
  },
  {
    kind: "config",
    name: "a hidden layer of 2^31-1: train",
    args: ["train", "--config", "../base/config.yaml", "--set", "MODEL.hidden_size=2147483646", "--save-dir", "out"],
    exits: REFUSED,
  },
  {
    kind: "config",
    name: "a batch of 2^31-1: train",
    args: [
      "train",
      "--config",
      "../base/config.yaml",
      "--batch-size",
      "2147483647",
      "--set",
      "TRAIN.lr_boundary_examples=2147483647",
      "--save-dir",
      "out",
    ],
  },
  {
    kind: "config",
    name: "a shuffle buffer of 2^31-1: train",
    args: ["train", "--config", "../base/config.yaml", "--set", "TRAIN.shuffle_buffer=2147483647", "--save-dir", "out"],
  },
  {
    kind: "config",
    name: "the list in the config with escapes: train",
    prepare: (place) => place.file("in.yaml", `TRAIN: {filelist: ${shown(ESCAPES)}}\nVALID: {filelist: ${shown(LIST)}}\n`),
    args: ["train", "--config", "in.yaml", "--save-dir", "out"],
    exits: REFUSED,
  },
];
