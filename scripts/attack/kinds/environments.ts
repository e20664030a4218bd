import type { Attempt } from "../attempt.js";
import { CONFIG, LIST, SHARD, SNAPSHOT } from "../base.js";
import { BIDI, ESCAPES } from "../bytes.js";

const INFER = ["infer", "--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "out"];
const VERIFY = ["verify", SHARD, "--config", CONFIG];
const HELP = ["train", "--help"];

/** Unusual environment variables, by description. */
const VARIABLES: Readonly<Record<string, Readonly<Record<string, string | undefined>>>> = {
  "HOME with escapes": { HOME: `/tmp/${ESCAPES}` },
  "HOME with bidirectional marks": { HOME: `/${BIDI}` },
  "HOME empty": { HOME: "" },
  "HOME relative": { HOME: "../canary" },
  "HOME of 100,000 characters": { HOME: `/${"x".repeat(100_000)}` },
  "no HOME": { HOME: undefined },
  "no variables but PATH": { HOME: undefined, TMPDIR: undefined, LANG: undefined, TERM: undefined, USER: undefined },
  "PATH empty": { PATH: "" },
  NO_COLOR: { NO_COLOR: "1" },
  FORCE_COLOR: { FORCE_COLOR: "3" },
  "FORCE_COLOR and NO_COLOR": { FORCE_COLOR: "1", NO_COLOR: "1" },
  "TERM with escapes": { TERM: ESCAPES },
  "TERM dumb": { TERM: "dumb" },
  "COLUMNS 0": { COLUMNS: "0", LINES: "0" },
  "COLUMNS -1": { COLUMNS: "-1" },
  "COLUMNS 1e9": { COLUMNS: "1e9" },
  "COLUMNS 999999999": { COLUMNS: "999999999" },
  "COLUMNS with escapes": { COLUMNS: ESCAPES },
  "TMPDIR missing": { TMPDIR: "/missing" },
  "TMPDIR a file": { TMPDIR: "/etc/passwd" },
  "LANG odd": { LANG: "tlh_QO.ISO-8859-1", LC_ALL: "tr_TR.UTF-8", LANGUAGE: "xx" },
  "LC_ALL with escapes": { LC_ALL: ESCAPES },
  "TZ odd": { TZ: ":/../canary/file" },
  "UV_THREADPOOL_SIZE 0": { UV_THREADPOOL_SIZE: "0" },
  "UV_THREADPOOL_SIZE 1": { UV_THREADPOOL_SIZE: "1" },
  "UV_THREADPOOL_SIZE -1": { UV_THREADPOOL_SIZE: "-1" },
  "UV_THREADPOOL_SIZE text": { UV_THREADPOOL_SIZE: "many" },
  "OMP_NUM_THREADS 0": { OMP_NUM_THREADS: "0" },
  "OMP_NUM_THREADS 1e9": { OMP_NUM_THREADS: "1000000000" },
  "OMP_NUM_THREADS with escapes": { OMP_NUM_THREADS: ESCAPES },
  "TF_NUM_INTRAOP_THREADS -1": { TF_NUM_INTRAOP_THREADS: "-1" },
  "TF_NUM_INTEROP_THREADS 1e9": { TF_NUM_INTEROP_THREADS: "1000000000" },
  "CUDA_VISIBLE_DEVICES text": { CUDA_VISIBLE_DEVICES: ESCAPES },
  "TF_CPP_MIN_LOG_LEVEL 0": { TF_CPP_MIN_LOG_LEVEL: "0", TF_CPP_MAX_VLOG_LEVEL: "0" },
  "NEXTVLAD_DEBUG text": { NEXTVLAD_DEBUG: "0" },
  "NEXTVLAD_ISA v2": { NEXTVLAD_ISA: "v2" },
  "NEXTVLAD_ISA with escapes": { NEXTVLAD_ISA: ESCAPES },
  "a variable of 100 KB": { NEXTVLAD_X: "x".repeat(100_000) },
};

const COMMANDS: Readonly<Record<string, readonly string[]>> = { verify: VERIFY, infer: INFER, "train --help": HELP };

export const environmentAttempts: readonly Attempt[] = [
  ...Object.entries(VARIABLES).flatMap(([name, environment]) =>
    Object.entries(COMMANDS).map(
      ([command, args]): Attempt => ({
        kind: "environment",
        name: `${name}: ${command}`,
        args,
        environment,
        // By default, a variable must not make a command fail.
        exits: [0],
        ...(name.startsWith("HOME relative") ? { exits: [0, 1, 2] } : {}),
        ...(/^NEXTVLAD_ISA with/.test(name) && command === "infer" ? { exits: [2] } : {}),
        // ICU crashes on such locale names.
        ...(name.startsWith("LC_ALL") ? { mayKillNode: true } : {}),
      }),
    ),
  ),
  ...["HOME with escapes", "HOME with bidirectional marks", "HOME empty", "HOME of 100,000 characters", "no HOME"].map(
    (name): Attempt => ({
      kind: "environment",
      name: `${name}, with the published weights: infer`,
      args: ["infer", "--filelist", LIST, "--save-dir", "out"],
      environment: VARIABLES[name] as Readonly<Record<string, string | undefined>>,
      exits: [1, 2],
    }),
  ),
  { kind: "environment", name: "umask 777: infer", args: INFER, shell: 'umask 777; exec "$@"' },
  {
    kind: "environment",
    name: "umask 0: convert",
    args: ["convert", "--to", "pkl", "--filelist", LIST, "--out", "out"],
    shell: 'umask 0; exec "$@"',
  },
  {
    kind: "environment",
    name: "deleted working directory: version",
    args: ["version"],
    shell: 'mkdir out/gone && cd out/gone && rmdir ../gone && exec "$@"',
  },
  {
    kind: "environment",
    name: "deleted working directory: verify",
    args: ["verify", "x"],
    shell: 'mkdir out/gone && cd out/gone && rmdir ../gone && exec "$@"',
  },
  {
    kind: "environment",
    name: "the working directory's name has escapes: verify",
    args: ["verify", "missing*"],
    shell: `mkdir out/$'\\e[2J\\n\\u202e' && cd out/$'\\e[2J\\n\\u202e' && exec "$@"`,
  },
  {
    kind: "environment",
    name: "the working directory's name has escapes: train",
    args: ["train", "--save-dir", "."],
    shell: `mkdir out/$'\\e[2J\\n\\u202e' && cd out/$'\\e[2J\\n\\u202e' && exec "$@"`,
  },
  { kind: "environment", name: "idle priority: infer", args: INFER, shell: 'exec nice -n 19 "$@"' },
  { kind: "environment", name: "one processor only: infer", args: INFER, shell: 'exec taskset -c 0 "$@"' },
];
