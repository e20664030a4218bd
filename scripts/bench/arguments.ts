import { resolve } from "node:path";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import type { Precision } from "../../src/kernels/types.js";
import { LEVELS, type Level } from "../../src/runtime/processor.js";
import { FULL_SIZE } from "./checkout.js";
import type { Task } from "./measure.js";
import { FRAMEWORKS, GPU_FRAMEWORKS } from "./peers.js";
import type { Frames } from "./workload.js";

export const USAGE = `usage: npm run bench -- train|infer|read|metrics [options]
  --config FILE        config whose MODEL section has the network's sizes (default configs/nextvlad.yaml; train, infer)
  --batch VIDEOS       batch size (default 32; train, infer, read)
  --frames N|yt8m      frames per video; yt8m: lengths of 120 to 300 frames, as in YouTube-8M (default 300; train, infer)
  --steps N            timed steps, after two warm-up steps (default 5; train, infer)
  --from-shards        also run nextvlad as a whole process on shards on disk (train, infer)
  --videos N           number of videos (default 20000 in metrics, 2000 with --from-shards)
  --precision P        float32; int16 or int8 on the CPU (infer); tf32 on the GPU (default float32; train, infer)
  --isa LEVEL          hold nextvlad and the peers to a processor level: ${LEVELS.join(", ")} (train, infer)
  --use-gpu            measure on the GPU; the peers are torch and torch-compile (train, infer)
  --readers A,B        numbers of reader threads, measured one after the other (default 2; read)
  --pairs N            number of interleaved measurements of nextvlad and the peers (default 5)
  --peers PYTHON       also measure the peers with this interpreter; several, separated by commas, if no single one has all frameworks
  --against DIR        also measure another checkout, which must be built, to find the cost of a change; one whose kernels were compiled for
                       this processor only (before NEXTVLAD_ISA) uses all its instructions in them, whatever --isa says
  --frameworks A,B     frameworks to compare with: ${FRAMEWORKS.join(", ")} (default: tf, torch, torch-compile; train, infer)
  --json               print one JSON object instead of a Markdown table
`;

const PRECISIONS: readonly Precision[] = ["float32", "tf32", "int16", "int8"];
const MODES = ["train", "infer", "read", "metrics"] as const;
const NETWORK: readonly string[] = ["train", "infer"];

/** The modes that have an option, for options that not all modes have. */
const MODES_OF: Readonly<Record<string, readonly string[]>> = {
  config: NETWORK,
  batch: [...NETWORK, "read"],
  frames: NETWORK,
  steps: NETWORK,
  "from-shards": NETWORK,
  videos: [...NETWORK, "metrics"],
  precision: NETWORK,
  isa: NETWORK,
  "use-gpu": NETWORK,
  readers: ["read"],
  frameworks: NETWORK,
};

/** Maximum number of reader threads, as in the config. */
const MAX_READERS = 64;

/** The parsed command line. */
export interface Settings {
  readonly mode: Task["mode"];
  /** Absolute path. */
  readonly config: string;
  readonly batch: number;
  readonly frames: Frames;
  readonly steps: number;
  readonly fromShards: boolean;
  readonly videos: number;
  readonly precision: Precision;
  readonly isa: Level | null;
  readonly useGpu: boolean;
  /** One or more. */
  readonly readers: readonly number[];
  readonly pairs: number;
  readonly peers: string | null;
  /** Path of another checkout, or null. */
  readonly against: string | null;
  readonly frameworks: readonly string[];
  readonly json: boolean;
}

/** Throws BAD_USAGE for an option's value. */
export function reject(key: string, expected: string, found: string): never {
  throw new NextvladError("BAD_USAGE", "invalid value", { key, expected, found, remedy: "see --help" });
}

/** Parses an integer from 1 to 10^9 - 1. Throws BAD_USAGE. */
export function wholeNumber(key: string, text: string): number {
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : reject(key, "an integer of at least 1", text);
}

/** Parses a processor level; undefined means null. Throws BAD_USAGE. */
export function parseIsa(text: string | undefined): Level | null {
  return text === undefined ? null : (LEVELS.find((level) => level === text) ?? reject("--isa", LEVELS.join(", "), text));
}

/** Returns the only positional argument, a directory, as an absolute path. Throws BAD_USAGE if there is another number of them. */
export function oneDirectory(positionals: readonly string[]): string {
  const [directory] = positionals;
  return directory === undefined || positionals.length > 1
    ? reject("DIR", "one directory", positionals.join(" ") || "nothing")
    : resolve(directory);
}

function parseReaders(text: string): number[] {
  const found = text.split(",").map((count) => wholeNumber("--readers", count));
  if (found.some((count) => count > MAX_READERS)) reject("--readers", `at most ${MAX_READERS}`, text);
  return found;
}

/** Parses options; `options` is that of node:util's `parseArgs`. Throws BAD_USAGE. */
export function parseOptions<const T extends NonNullable<ParseArgsConfig["options"]>>(
  argv: readonly string[],
  options: T,
): ReturnType<typeof parseArgs<{ args: string[]; allowPositionals: true; options: T }>> {
  try {
    return parseArgs({ args: [...argv], allowPositionals: true, options });
  } catch (error) {
    const what = error instanceof Error ? error.message.replace(/\.$/, "") : String(error);
    throw new NextvladError("BAD_USAGE", what, { remedy: "see --help" }, error);
  }
}

/** Parses the command line; returns null for `--help`. Throws BAD_USAGE if an argument is invalid or does not belong to the mode. */
export function readArguments(argv: readonly string[]): Settings | null {
  const { values, positionals } = parseOptions(argv, {
    config: { type: "string" },
    batch: { type: "string" },
    frames: { type: "string" },
    steps: { type: "string" },
    "from-shards": { type: "boolean" },
    videos: { type: "string" },
    precision: { type: "string" },
    isa: { type: "string" },
    "use-gpu": { type: "boolean" },
    readers: { type: "string" },
    pairs: { type: "string" },
    peers: { type: "string" },
    against: { type: "string" },
    frameworks: { type: "string" },
    json: { type: "boolean" },
    help: { type: "boolean" },
  });
  if (values.help === true) return null;
  const mode = positionals.length === 1 ? MODES.find((name) => name === positionals[0]) : undefined;
  if (mode === undefined) reject("mode", MODES.join(", "), positionals.join(" ") || "nothing");
  for (const option of Object.keys(values)) {
    const modes = MODES_OF[option];
    if (modes !== undefined && !modes.includes(mode)) reject(`--${option}`, `mode ${modes.join(" or ")}`, mode);
  }
  const fromShards = values["from-shards"] === true;
  if (values.videos !== undefined && mode !== "metrics" && !fromShards) reject("--videos", "--from-shards with it", mode);
  const useGpu = values["use-gpu"] === true;
  const isa = parseIsa(values.isa);
  if (useGpu && isa !== null) reject("--isa", "no --use-gpu with it", isa);
  const known = useGpu ? GPU_FRAMEWORKS : FRAMEWORKS;
  const frameworks = values.frameworks?.split(",") ?? (useGpu ? GPU_FRAMEWORKS : ["tf", "torch", "torch-compile"]);
  const unknown = frameworks.find((framework) => !known.includes(framework));
  if (unknown !== undefined) reject("--frameworks", known.join(", "), unknown);
  const precision = PRECISIONS.find((name) => name === (values.precision ?? "float32"));
  if (precision === undefined) reject("--precision", PRECISIONS.join(", "), String(values.precision));
  const fitting = useGpu ? ["float32", "tf32"] : ["float32", ...(mode === "infer" ? ["int16", "int8"] : [])];
  if (!fitting.includes(precision)) reject("--precision", fitting.join(", "), precision);
  return {
    mode,
    config: values.config === undefined ? FULL_SIZE : resolve(values.config),
    batch: wholeNumber("--batch", values.batch ?? "32"),
    frames: values.frames === "yt8m" ? "yt8m" : wholeNumber("--frames", values.frames ?? "300"),
    steps: wholeNumber("--steps", values.steps ?? "5"),
    fromShards,
    videos: wholeNumber("--videos", values.videos ?? (fromShards ? "2000" : "20000")),
    precision,
    isa,
    useGpu,
    readers: parseReaders(values.readers ?? "2"),
    pairs: wholeNumber("--pairs", values.pairs ?? "5"),
    peers: values.peers ?? null,
    against: values.against ?? null,
    frameworks,
    json: values.json === true,
  };
}
