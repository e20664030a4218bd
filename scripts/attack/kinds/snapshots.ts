import { readFileSync } from "node:fs";
import { stringifyWithChecksum } from "../../../src/formats/checksum.js";
import type { Attempt } from "../attempt.js";
import { CONFIG, HALF_LIST, LIST, PARTIAL, SNAPSHOT } from "../base.js";
import { ESCAPES } from "../bytes.js";
import type { Workplace } from "../workplace.js";

type Json = { [key: string]: never };

/** Replaces a state file by a changed one with a correct checksum. */
function forge(place: Workplace, file: string, change: (state: Json) => object): void {
  const { crc32c: _, ...state } = JSON.parse(readFileSync(place.path(file), "utf8")) as Json;
  place.file(file, stringifyWithChecksum(change(state)));
}

const files = (state: Json): Json => state.files as unknown as Json;

/** Changes to a snapshot's state. */
const STATES: Readonly<Record<string, (state: Json) => object>> = {
  "a file outside the snapshot": (state) => ({
    ...state,
    files: { ...files(state), "../../canary/file": { bytes: 13, crc32c: "00000000" } },
  }),
  "an absolute file": (state) => ({ ...state, files: { ...files(state), "/etc/passwd": { bytes: 1, crc32c: "00000000" } } }),
  "a file of the null device": (state) => ({ ...state, files: { ...files(state), "/dev/null": { bytes: 0, crc32c: "00000000" } } }),
  "a file with escapes in its name": (state) => ({ ...state, files: { ...files(state), [ESCAPES]: { bytes: 1, crc32c: "00000000" } } }),
  "a file __proto__": (state) => ({ ...state, files: JSON.parse('{"__proto__":{"bytes":1,"crc32c":"00000000"}}') as object }),
  "files without the weights": (state) => ({ ...state, files: {} }),
  "100,000 files": (state) => ({
    ...state,
    files: Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`f${i}`, { bytes: 1, crc32c: "00000000" }])),
  }),
  "step_in_epoch 9999999": (state) => ({ ...state, epoch: 0, step_in_epoch: 9_999_999 }),
  "step 2^53-1": (state) => ({ ...state, step: 2 ** 53 - 1 }),
  "epoch 2^53-1": (state) => ({ ...state, epoch: 2 ** 53 - 1 }),
  "step -1": (state) => ({ ...state, step: -1 }),
  "step 1.5": (state) => ({ ...state, step: 1.5 }),
  "seed 2^53-1": (state) => ({ ...state, seed: 2 ** 53 - 1 }),
  "a best GAP of 1e308": (state) => ({ ...state, best: { epoch: 0, gap: 1e308 } }),
  "an unknown key with escapes": (state) => ({ ...state, [ESCAPES]: 1 }),
  "format version 1e9": (state) => ({ ...state, format_version: 1e9 }),
  "a format version with escapes": (state) => ({ ...state, format_version: ESCAPES }),
  "written by escapes": (state) => ({ ...state, written_by: { nextvlad: ESCAPES, node: ESCAPES, tensorflow: ESCAPES, device: ESCAPES } }),
  "other shards": (state) => ({ ...state, shards: { count: 2, crc32c: "00000000" } }),
  "a corrupt record of shard 2^40": (state) => ({
    ...state,
    shards: { ...Object(state.shards), first_corrupt: [{ shard: 2 ** 40, record: 0 }] },
  }),
};

/** Changes to a snapshot's files. */
const TAMPERED: Readonly<Record<string, (place: Workplace, directory: string) => void>> = {
  "a state of 5 MB of brackets": (place, directory) => place.file(`${directory}/state.json`, "[".repeat(5_000_000)),
  "a state that is null": (place, directory) => place.file(`${directory}/state.json`, "null"),
  "a changed byte in the weights": (place, directory) => {
    const weights = readFileSync(place.path(`${directory}/weights.safetensors`));
    weights[weights.length - 1] = (weights.at(-1) as number) ^ 1;
    place.file(`${directory}/weights.safetensors`, weights);
  },
  "truncated weights": (place, directory) => place.file(`${directory}/weights.safetensors`, Buffer.alloc(100)),
  "a config of escapes": (place, directory) => place.file(`${directory}/config.yaml`, ESCAPES),
};

const RESUME = ["train", "--config", CONFIG, "--save-dir", "out", "--epoch", "3"];
const NEWEST = "out/NEXTVLAD_epoch0";

const resumeAttempts = [
  ...Object.entries(STATES).map(([name, change]) => [name, (place: Workplace) => forge(place, `${NEWEST}/state.json`, change)] as const),
  ...Object.entries(TAMPERED).map(([name, change]) => [name, (place: Workplace) => change(place, NEWEST)] as const),
].flatMap(([name, change]): readonly Attempt[] => {
  const prepare = (place: Workplace): void => {
    place.copy(SNAPSHOT, NEWEST);
    change(place);
  };
  return [
    { kind: "snapshot", name: `${name}: train --resume`, prepare, args: [...RESUME, "--resume"], usesModel: true },
    { kind: "snapshot", name: `${name}: inspect`, prepare, args: ["inspect", NEWEST], usesModel: true },
  ];
});

/** Changes to the state of partial results. */
const PARTIAL_STATES: Readonly<Record<string, (state: Json) => object>> = {
  "batches 2^53-1": (state) => ({ ...state, batches: 2 ** 53 - 1 }),
  "videos 2^53-1": (state) => ({ ...state, videos: 2 ** 53 - 1 }),
  "batches -1": (state) => ({ ...state, batches: -1 }),
  "fraction 1e308": (state) => ({ ...state, fraction: 1e308 }),
  "complete, with nothing done": (state) => ({ ...state, complete: true, videos: 0 }),
  "a file outside": (state) => ({ ...state, files: { "../../canary/file": { bytes: 0, crc32c: 0 } } }),
  "a file with escapes": (state) => ({ ...state, files: { [ESCAPES]: { bytes: 0, crc32c: 0 } } }),
  "files of 2^53-1 bytes": (state) => ({
    ...state,
    files: Object.fromEntries(Object.keys(files(state)).map((name) => [name, { bytes: 2 ** 53 - 1, crc32c: 0 }])),
  }),
  "a key with escapes": (state) => ({ ...state, work: { ...(state.work as object | undefined), [ESCAPES]: ESCAPES } }),
  "sums that are not base64": (state) => ({ ...state, sums: { [ESCAPES]: ESCAPES } }),
  "computed by escapes": (state) => ({ ...state, computed_by: ESCAPES }),
  "format version -1": (state) => ({ ...state, format_version: -1 }),
};

const partialFolder = "out/NEXTVLAD_infer_result.partial";
const RESUME_INFER = ["infer", "--weights", SNAPSHOT, "--filelist", HALF_LIST, "--batch-size", "16", "--save-dir", "out", "--resume"];

export const snapshotAttempts: readonly Attempt[] = [
  ...resumeAttempts,
  ...Object.entries(PARTIAL_STATES).map(
    ([name, change]): Attempt => ({
      kind: "snapshot",
      name: `partial results: ${name}`,
      prepare: (place) => {
        place.copy(PARTIAL, partialFolder);
        forge(place, `${partialFolder}/state.json`, change);
      },
      args: [...RESUME_INFER, "--on-corrupt", "skip-record"],
      usesModel: true,
    }),
  ),
  {
    kind: "snapshot",
    name: "partial results: a link to the canary in place of a file",
    prepare: (place) => {
      place.copy(PARTIAL, partialFolder);
      const { files: names } = JSON.parse(readFileSync(place.path(`${partialFolder}/state.json`), "utf8")) as { readonly files: object };
      for (const name of Object.keys(names)) place.link(`${partialFolder}/${name}.link`, "../../../canary/file");
    },
    args: [...RESUME_INFER, "--on-corrupt", "skip-record"],
    usesModel: true,
  },
  {
    kind: "snapshot",
    name: "a FIFO as the state: train --resume",
    prepare: (place) => {
      place.copy(`${SNAPSHOT}/weights.safetensors`, `${NEWEST}/weights.safetensors`);
      place.fifo(`${NEWEST}/state.json`);
    },
    args: [...RESUME, "--resume"],
    usesModel: true,
    mayWait: true,
    signals: [{ name: "SIGTERM", afterMs: 6000 }],
    exits: [0, 1, 2, 143, "SIGKILL"],
  },
  {
    kind: "snapshot",
    name: "a snapshot that is a link to another directory: train",
    prepare: (place) => {
      place.copy(SNAPSHOT, "elsewhere");
      place.link("out/NEXTVLAD_epoch0", "../elsewhere");
    },
    args: ["train", "--config", CONFIG, "--save-dir", "out", "--overwrite"],
    usesModel: true,
  },
  {
    kind: "snapshot",
    name: "a lock with escapes: train",
    prepare: (place) => place.file("out/.nextvlad.lock", `${ESCAPES}\n`),
    args: ["train", "--config", CONFIG, "--save-dir", "out"],
    usesModel: true,
  },
  { kind: "snapshot", name: "resume from a list: train", args: [...RESUME, "--resume", LIST] },
];
