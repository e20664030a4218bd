import { parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import type { Precision } from "../../src/kernels/types.js";
import type { Task } from "./measure.js";
import { FRAMEWORKS, GPU_FRAMEWORKS } from "./peers.js";
import type { Frames } from "./workload.js";

export const USAGE = `usage: npm run bench -- train|infer|read|metrics [options]
  --batch VIDEOS       batch size (default 32)
  --frames N|yt8m      frames per video; yt8m: lengths of 120 to 300 frames, as in YouTube-8M (default 300; train, infer)
  --steps N            timed steps, after two warm-up steps (default 5; train, infer)
  --videos N           number of videos (default 20000; metrics)
  --precision P        float32; int16 or int8 on the CPU (infer); tf32 on the GPU (default float32; train, infer)
  --use-gpu            measure on the GPU; the peers are torch and torch-compile (train, infer)
  --pairs N            number of interleaved measurements of nextvlad and the peers (default 5)
  --peers PYTHON       also measure the peers with this interpreter; several, separated by commas, if no single one has all frameworks
  --against DIR        also measure another checkout, which must be built, to find the cost of a change
  --frameworks A,B     frameworks to compare with: ${FRAMEWORKS.join(", ")} (default: the fastest two; train, infer)
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

function reject(key: string, expected: string, found: string): never {
  throw new NextvladError("BAD_USAGE", "invalid value", { key, expected, found, remedy: "see --help" });
}

function wholeNumber(key: string, text: string): number {
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : reject(key, "an integer of at least 1", text);
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
  if (!MODES.includes(mode) || rest.length > 0) reject("mode", MODES.join(", "), positionals.join(" ") || "nothing");
  const useGpu = values["use-gpu"];
  const known = useGpu ? GPU_FRAMEWORKS : FRAMEWORKS;
  const frameworks = values.frameworks?.split(",") ?? (useGpu ? GPU_FRAMEWORKS : ["tf", "torch-compile"]);
  const unknown = frameworks.find((framework) => !known.includes(framework));
  if (unknown !== undefined) reject("--frameworks", known.join(", "), unknown);
  const precision = PRECISIONS.find((name) => name === values.precision);
  if (precision === undefined) reject("--precision", PRECISIONS.join(", "), values.precision);
  const fitting = useGpu ? ["float32", "tf32"] : ["float32", ...(mode === "infer" ? ["int16", "int8"] : [])];
  if (!fitting.includes(precision)) reject("--precision", fitting.join(", "), precision);
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
