import type { Attempt } from "../attempt.js";
import { BASE, CONFIG, SNAPSHOT } from "../base.js";
import { BIDI, ESCAPES, HOSTILE_TEXT, records, video } from "../bytes.js";
import type { Workplace } from "../workplace.js";

const shard = records(video());
const oneLine = (text: string): string => text.replaceAll(/[\r\n]/g, " ");

/** Shard lists. */
const LISTS: Readonly<Record<string, () => string | Uint8Array>> = {
  "empty list": () => "",
  "only comments": () => "# nothing\n".repeat(1000),
  "a line of 10 MB": () => "x".repeat(10_000_000),
  "10 MB of newlines": () => "\n".repeat(10_000_000),
  "200,000 missing files": () => Array.from({ length: 200_000 }, (_, i) => `missing${i}.tfrecord`).join("\n"),
  "the same shard 5,000 times": () => `${BASE}/a.tfrecord\n`.repeat(5000),
  "a NUL in a line": () => `${BASE}/a.tfrecord\n${BASE}/a\0.tfrecord\n`,
  "escapes in a line": () => `${oneLine(ESCAPES)}\n${oneLine(BIDI)}\n`,
  "a carriage return that hides the line": () => "missing.tfrecord\rerror[FORGED]: forged\n",
  "the list itself": () => "in.list\n",
  "a directory": () => `${BASE}\n`,
  "a URL with escapes": () => "https://x/\x1b[2J\n",
  "not UTF-8": () => Buffer.from("\xff\xfe\x9b.tfrecord\n", "latin1"),
  "UTF-16": () => Buffer.from("\ufeffa.tfrecord\n", "utf16le"),
  "100 parent directories": () => `${"../".repeat(100)}a.tfrecord\n`,
  "a path of 5,000 characters": () => `${"a/".repeat(2500)}x\n`,
  "a name of 300 characters": () => `${"a".repeat(300)}\n`,
  "~user": () => "~root/x.tfrecord\n~/x.tfrecord\n~\n",
  "/dev/zero and /dev/null": () => "/dev/null\n",
  "/proc/self/mem": () => "/proc/self/mem\n",
  ...Object.fromEntries(Object.entries(HOSTILE_TEXT).map(([name, text]) => [`the line is ${name}`, () => `${oneLine(text)}\n`])),
};

/** Glob patterns, and the directories of shards that they match. */
const PATTERNS: Readonly<Record<string, readonly [pattern: string, prepare: (place: Workplace) => void]>> = {
  "** and two links to the directory itself": [
    "in/**/*.tfrecord",
    (place) => {
      place.file("in/a.tfrecord", shard);
      for (const name of ["p", "q"]) place.link(`in/${name}`, ".");
    },
  ],
  "** and a link upwards": [
    "in/**",
    (place) => {
      place.file("in/deep/a.tfrecord", shard);
      place.link("in/deep/up", "../..");
    },
  ],
  "** and 12 directories that link to each other": [
    "in/**/*.tfrecord",
    (place) => {
      for (let i = 0; i < 12; i++) {
        place.file(`in/d${i}/a.tfrecord`, shard);
        for (let j = 0; j < 12; j++) place.link(`in/d${i}/l${j}`, `../d${j}`);
      }
    },
  ],
  "30 stars and a long name": [`in/${"*a".repeat(30)}b`, (place) => place.file(`in/${"a".repeat(200)}`, shard)],
  "40 question marks and stars": [`in/${"?*".repeat(40)}b`, (place) => place.file(`in/${"a".repeat(200)}`, shard)],
  "200 times **": [`in/${"**/".repeat(200)}x`, (place) => place.file("in/a/b/c/d/e/f/g/a.tfrecord", shard)],
  "an open bracket": ["in/[a-", (place) => place.file("in/[a-", shard)],
  "a reversed range": ["in/[z-a]*", (place) => place.file("in/a.tfrecord", shard)],
  "1 MB of brackets": [`in/${"[".repeat(100_000)}`, (place) => place.file("in/a.tfrecord", shard)],
  "names with escapes": [
    "in/*",
    (place) => {
      place.file(`in/${ESCAPES.replaceAll("/", "")}.tfrecord`, Buffer.alloc(20));
      place.file(`in/${BIDI}.tfrecord`, Buffer.alloc(20));
    },
  ],
  "names that look like flags and comments": [
    "in/*",
    (place) => {
      for (const name of ["--help", "#x", " x ", "-", "~"]) place.file(`in/${name}`, shard);
    },
  ],
  "2,000 empty shards": [
    "in/*",
    (place) => {
      for (let i = 0; i < 2000; i++) place.file(`in/${i}.tfrecord`, "");
    },
  ],
  "a FIFO among the shards": [
    "in/*",
    (place) => {
      place.file("in/a.tfrecord", shard);
      place.fifo("in/b.tfrecord");
    },
  ],
  "dangling and circular links": [
    "in/*",
    (place) => {
      place.link("in/nowhere", "missing");
      place.link("in/circle", "circle");
    },
  ],
};

const patternAttempts = Object.entries(PATTERNS).flatMap(([name, [pattern, prepare]]): readonly Attempt[] => {
  const wait = name.includes("FIFO")
    ? ({ mayWait: true, signals: [{ name: "SIGTERM", afterMs: 6000 }], exits: [0, 1, 2, 143, "SIGKILL"] } as const)
    : {};
  return [
    { kind: "list", name: `${name}: verify`, prepare, args: ["verify", pattern, "--config", CONFIG], ...wait },
    { kind: "list", name: `${name}: convert`, prepare, args: ["convert", "--to", "pkl", "--filelist", pattern, "--out", "out"], ...wait },
  ];
});

export const listAttempts: readonly Attempt[] = [
  ...Object.entries(LISTS).flatMap(([name, make]): readonly Attempt[] => {
    const prepare = (place: Workplace): void => place.file("in.list", make());
    const slow = /\d00,000/.test(name) ? ({ isSlow: true } as const) : {};
    return [
      { kind: "list", name: `${name}: verify`, prepare, args: ["verify", "in.list", "--config", CONFIG], ...slow },
      {
        kind: "list",
        name: `${name}: infer`,
        prepare,
        args: ["infer", "--weights", SNAPSHOT, "--filelist", "in.list", "--save-dir", "out"],
        ...slow,
      },
    ];
  }),
  ...patternAttempts,
  { kind: "list", name: "standard input: text with escapes", args: ["verify", "-"], stdin: ESCAPES },
  { kind: "list", name: "standard input: a shard", args: ["verify", "-"], stdin: shard },
  { kind: "list", name: "standard input: 40 MB without a newline", args: ["verify", "-"], stdin: "x".repeat(40_000_000) },
  { kind: "list", name: "standard input: empty", args: ["verify", "-"] },
  {
    kind: "list",
    name: "endless standard input",
    args: ["verify", "-"],
    shell: 'yes missing.tfrecord | "$@"',
    isSlow: true,
  },
  {
    kind: "list",
    name: "a name that is not UTF-8: convert",
    shell: `mkdir in && cp ${BASE}/a.tfrecord $'in/a\\xff\\x9b.tfrecord' && exec "$@"`,
    targets: ["out", "in"],
    args: ["convert", "--to", "pkl", "--filelist", "in/*", "--out", "out"],
  },
  {
    kind: "list",
    name: "shards whose names a list must escape, converted and read back",
    prepare: (place) => {
      for (const name of ["#a.tfrecord", " b.tfrecord", "c\nd.tfrecord"]) place.file(`in/${name}`, shard);
    },
    shell: '"$@"; code=$?; if [ $code = 0 ]; then "$1" "$2" verify out/train.list --config ../base/config.yaml >&2; else exit $code; fi',
    args: ["convert", "--to", "tfrecord", "--filelist", "in/*", "--out", "out"],
  },
];
