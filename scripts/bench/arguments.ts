import { parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import type { Precision } from "../../src/kernels/types.js";
import type { Task } from "./measure.js";
import { FRAMEWORKS, GPU_FRAMEWORKS } from "./peers.js";
import type { Frames } from "./workload.js";

export const USAGE = `usage: npm run bench -- train|infer|read|metrics [options]
  --batch VIDEOS       videos a step (default 32)
  --frames N|yt8m      frames of every video, or YouTube-8M's mix, 120 to 300 (default 300; train, infer)
  --steps N            timed steps, after two of warm-up (default 5; train, infer)
  --videos N           videos (default 20000; metrics)
  --precision P        float32; int16 or int8 on the CPU (infer); tf32 on the GPU (default float32; train, infer)
  --use-gpu            measure on the GPU, where the peers are torch and torch-compile (train, infer)
  --pairs N            how often to measure, ours and the peers in turn (default 5)
  --peers PYTHON       also run the peers with this interpreter; several, parted by commas, where each has some of the frameworks
  --against DIR        also run the same benchmark of another checkout, built: what a change costs
  --frameworks A,B     which of ${FRAMEWORKS.join(", ")} (default: the fastest two; train, infer)
  --json               print one JSON object instead of a Markdown table
`;

const PRECISIONS: readonly Precision[] = ["float32", "tf32", "int16", "int8"];
const MODES: readonly string[] = ["train", "infer", "read", "metrics"];

/** The parsed command line. */
export interface Settings {
  readonly mode: Task["mode"];
  readonly batch: number;
  readonly frames: Frames;
  readonly steps: number;
  readonly videos: number;
  readonly precision: Precision;
  readonly useGpu: boolean;
  readonly pairs: number;
  readonly peers: string | null;
  /** Path of another checkout, or null. */
  readonly against: string | null;
  readonly frameworks: readonly string[];
  readonly json: boolean;
}

function refuse(key: string, expected: string, found: string): never {
  throw new NextvladError("BAD_USAGE", "it does not fit", { key, expected, found, remedy: "see --help" });
}

function wholeNumber(key: string, text: string): number {
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : refuse(key, "a whole number, 1 or more", text);
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        batch: { type: "string", default: "32" },
        frames: { type: "string", default: "300" },
        steps: { type: "string", default: "5" },
        videos: { type: "string", default: "20000" },
        precision: { type: "string", default: "float32" },
        "use-gpu": { type: "boolean", default: false },
        pairs: { type: "string", default: "5" },
        peers: { type: "string" },
        against: { type: "string" },
        frameworks: { type: "string" },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new NextvladError(
      "BAD_USAGE",
      error instanceof Error ? error.message.replace(/\.$/, "") : String(error),
      { remedy: "see --help" },
      error,
    );
  }
}

/** Parses the command line; returns null for `--help`. Throws BAD_USAGE if an argument is invalid. */
export function readArguments(argv: readonly string[]): Settings | null {
  const { values, positionals } = parse(argv);
  if (values.help) return null;
  const [mode = "nothing", ...rest] = positionals;
  if (!MODES.includes(mode) || rest.length > 0) refuse("what to measure", MODES.join(", "), positionals.join(" ") || "nothing");
  const useGpu = values["use-gpu"];
  const known = useGpu ? GPU_FRAMEWORKS : FRAMEWORKS;
  const frameworks = values.frameworks?.split(",") ?? (useGpu ? GPU_FRAMEWORKS : ["tf", "torch-compile"]);
  const unknown = frameworks.find((framework) => !known.includes(framework));
  if (unknown !== undefined) refuse("--frameworks", known.join(", "), unknown);
  const precision = PRECISIONS.find((name) => name === values.precision);
  if (precision === undefined) refuse("--precision", PRECISIONS.join(", "), values.precision);
  const fitting = useGpu ? ["float32", "tf32"] : ["float32", ...(mode === "infer" ? ["int16", "int8"] : [])];
  if (!fitting.includes(precision)) refuse("--precision", fitting.join(", "), precision);
  return {
    mode: mode as Task["mode"],
    batch: wholeNumber("--batch", values.batch),
    frames: values.frames === "yt8m" ? "yt8m" : wholeNumber("--frames", values.frames),
    steps: wholeNumber("--steps", values.steps),
    videos: wholeNumber("--videos", values.videos),
    precision,
    useGpu,
    pairs: wholeNumber("--pairs", values.pairs),
    peers: values.peers ?? null,
    against: values.against ?? null,
    frameworks,
    json: values.json,
  };
}
