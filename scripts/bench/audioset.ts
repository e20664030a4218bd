/**
 * Trains and evaluates on real data, AudioSet's balanced training set (audio only, about 10 frames per clip), once per seed. With `--peers`, each run is
 * followed by PyTorch training the same network with the same recipe. Prints MAP and GAP (top 20, as YouTube-8M defines them), full-ranking mAP computed
 * by scikit-learn, and the training speed.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import { writeFileAtomic } from "../../src/base/files.js";
import { resolveShards } from "../../src/data/file-list.js";
import { runChild } from "./child.js";
import { findPeerScript, interpreterWith } from "./peers.js";
import { spreadOf } from "./statistics.js";

export const AUDIOSET_USAGE = `usage: npm run bench -- audioset DIR [options]
  DIR                  directory with train*.tfrecord* and eval*.tfrecord* of AudioSet's audio features
  --seeds A,B          seeds to train with (default 0,1,2)
  --epochs N           epochs of each training (default 12)
  --peers PYTHON       also train in PyTorch with this interpreter, and compute full-ranking mAP with its scikit-learn
  --json               print one JSON object instead of a Markdown table
`;

const CLI = fileURLToPath(new URL("../../src/nextvlad.cjs", import.meta.url));
const CONFIG = fileURLToPath(new URL("../../../configs/audioset.yaml", import.meta.url));
const FULL_RANKING = fileURLToPath(new URL("../../../scripts/bench/full_ranking.py", import.meta.url));
const CLASSES = 527;
const BATCH = 128;

/** Results of one training run. */
interface AudiosetRun {
  readonly name: "nextvlad" | "PyTorch";
  readonly seed: number;
  readonly map: number;
  readonly gap: number;
  /** Mean of scikit-learn's average precisions over all clips; null if no interpreter with scikit-learn is given. */
  readonly full_ranking_map: number | null;
  readonly clips_per_second: number;
}

/** Settings shared by all runs. */
interface Workplace {
  readonly folder: string;
  readonly data: string;
  readonly trainList: string;
  readonly evalList: string;
  readonly epochs: number;
  /** The interpreter with PyTorch and scikit-learn; null without `--peers`. */
  readonly python: string | null;
  readonly signal: AbortSignal;
}

interface LogLine {
  /** ISO 8601. */
  readonly time: string;
  readonly msg: string;
  readonly step?: number;
}

const nextvlad = (args: readonly string[], { signal }: Workplace): Promise<string> => runChild(process.execPath, [CLI, ...args], signal);

/** Returns clips per second between the first and the last logged step. This includes reading, saving and epoch changes, but not start-up. */
async function readPace(logFile: string): Promise<number> {
  const lines = (await readFile(logFile, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as LogLine)
    .filter(({ msg }) => msg.startsWith("[TRAIN] Epoch"));
  const [first, last] = [lines[0], lines.at(-1)];
  if (first?.step === undefined || last?.step === undefined)
    throw new NextvladError("BAD_FORMAT", "the log contains no steps", { file: logFile });
  return (BATCH * (last.step - first.step)) / ((Date.parse(last.time) - Date.parse(first.time)) / 1000);
}

/** Computes MAP and GAP over each clip's top 20 classes, and full-ranking mAP, from a file of predictions for all classes. */
async function score(pickle: string, place: Workplace): Promise<Pick<AudiosetRun, "map" | "gap" | "full_ranking_map">> {
  const saveDir = `${pickle}.metrics`;
  await nextvlad(["ensemble", pickle, "--filelist", place.evalList, "--config", CONFIG, "--save-dir", saveDir], place);
  const { map, gap } = JSON.parse(await readFile(join(saveDir, "NEXTVLAD_ensemble_metrics.json"), "utf8")) as { map: number; gap: number };
  if (place.python === null) return { map, gap, full_ranking_map: null };
  const videos = await resolveShards(join(place.folder, "videos", "eval.list"), { cwd: place.folder });
  const printed = await runChild(place.python, [FULL_RANKING, pickle, ...videos.map(({ path }) => path)], place.signal);
  return { map, gap, full_ranking_map: (JSON.parse(printed) as { map: number }).map };
}

async function trainOurs(seed: number, place: Workplace): Promise<AudiosetRun> {
  const saveDir = join(place.folder, `nextvlad-${seed}`);
  const sets = [`TRAIN.filelist=${place.trainList}`, `TRAIN.epoch=${place.epochs}`].flatMap((set) => ["--set", set]);
  const flags = ["--config", CONFIG, "--fix-random-seed", String(seed), "--valid-interval", "0", "--save-dir", saveDir, "--keep", "1"];
  await nextvlad(["train", ...flags, ...sets], place);
  const weights = join(saveDir, `NEXTVLAD_epoch${place.epochs - 1}`);
  const results = join(saveDir, "predictions");
  const reading = ["--filelist", place.evalList, "--batch-size", "256", "--infer-topk", String(CLASSES), "--save-dir", results];
  await nextvlad(["infer", "--weights", weights, ...reading], place);
  const clips_per_second = await readPace(join(saveDir, "train.log.jsonl"));
  return { name: "nextvlad", seed, ...(await score(join(results, "NEXTVLAD_infer_result.pkl"), place)), clips_per_second };
}

/** Computes the peer's clips per second from the number of training clips and the seconds per epoch in its output. */
export function readPeerPace(output: string): number {
  const clips = Number(/^(\d+) \d+$/m.exec(output)?.[1]);
  const seconds = [...output.matchAll(/^epoch \d+ loss [\d.]+ ([\d.]+) s$/gm)].map((match) => Number(match[1]));
  const total = seconds.reduce((sum, value) => sum + value, 0);
  return (Math.floor(clips / BATCH) * BATCH * seconds.length) / total;
}

/** The peer's script and the interpreter to run it with. */
interface Peer {
  readonly script: string;
  readonly python: string;
}

/** Finds the peer's script and interpreter, before hours of training. Throws FILE_MISSING or NOT_SET_UP if one is missing. */
async function findPeer(interpreters: readonly string[], signal: AbortSignal): Promise<Peer> {
  const script = await findPeerScript("audioset_torch.py");
  const python = await interpreterWith("torch", { interpreters, signal });
  return { script, python: await interpreterWith("sklearn", { interpreters: [python], signal }) };
}

async function trainPeer(seed: number, { script, python }: Peer, place: Workplace): Promise<AudiosetRun> {
  const out = join(place.folder, `torch-${seed}.pkl`);
  const globs = ["train", "eval"].map((split) => join(place.data, `${split}*.tfrecord*`));
  const output = await runChild(python, [script, ...globs, out, "--epochs", String(place.epochs), "--seed", String(seed)], place.signal);
  return { name: "PyTorch", seed, ...(await score(out, place)), clips_per_second: readPeerPace(output) };
}

function formatRuns(runs: readonly AudiosetRun[]): string {
  const show = (value: number | null): string => (value === null ? "" : value.toFixed(4));
  const rows = runs.map((run) => [
    run.name,
    String(run.seed),
    show(run.map),
    show(run.gap),
    show(run.full_ranking_map),
    run.clips_per_second.toFixed(0),
  ]);
  for (const name of ["nextvlad", "PyTorch"] as const) {
    const own = runs.filter((run) => run.name === name);
    if (own.length < 2) continue;
    const spread = (of: (run: AudiosetRun) => number, digits: number): string => {
      const { median, min, max } = spreadOf(own.map(of));
      return `${median.toFixed(digits)} (${min.toFixed(digits)} to ${max.toFixed(digits)})`;
    };
    const full = own.every((run) => run.full_ranking_map !== null) ? spread((run) => run.full_ranking_map as number, 4) : "";
    rows.push([
      `${name}, median`,
      "",
      spread((run) => run.map, 4),
      spread((run) => run.gap, 4),
      full,
      spread((run) => run.clips_per_second, 0),
    ]);
  }
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const header = ["", "seed", "MAP (top 20)", "GAP", "mAP (full ranking)", "training, clips/s"];
  return [line(header), line(header.map(() => "---")), ...rows.map(line), ""].join("\n");
}

/** Runs `npm run bench -- audioset`. Writes only to `folder`. Throws BAD_USAGE if an argument is invalid, and the errors of the commands that it runs. */
export async function benchAudioset(argv: readonly string[], folder: string, signal: AbortSignal): Promise<string> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      seeds: { type: "string", default: "0,1,2" },
      epochs: { type: "string", default: "12" },
      peers: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const [directory] = positionals;
  const seeds = values.seeds.split(",").map(Number);
  const epochs = Number(values.epochs);
  if (directory === undefined || positionals.length > 1 || ![epochs, ...seeds].every(Number.isInteger) || epochs < 1) {
    throw new NextvladError("BAD_USAGE", `invalid arguments\n${AUDIOSET_USAGE}`);
  }
  const peer = values.peers === undefined ? null : await findPeer(values.peers.split(","), signal);
  const data = resolve(directory);
  await mkdir(folder, { recursive: true });
  const makeList = async (split: string): Promise<string> => {
    const list = join(folder, `${split}.list`);
    const shards = await resolveShards(join(data, `${split}*.tfrecord*`), { cwd: data });
    await writeFileAtomic(list, shards.map(({ path }) => `${path}\n`).join(""));
    return list;
  };
  const place = {
    folder,
    data,
    trainList: await makeList("train"),
    evalList: await makeList("eval"),
    epochs,
    python: peer?.python ?? null,
    signal,
  };
  if (peer !== null) {
    const convert = ["--feature-names", "rgb,audio_embedding", "--filelist", place.evalList, "--out", join(folder, "videos")];
    await nextvlad(["convert", "--to", "pkl", ...convert], place);
  }
  const runs: AudiosetRun[] = [];
  const add = (run: AudiosetRun): void => {
    runs.push(run);
    process.stderr.write(`${JSON.stringify(run)}\n`);
  };
  for (const seed of seeds) {
    add(await trainOurs(seed, place));
    if (peer !== null) add(await trainPeer(seed, peer, place));
  }
  return values.json ? `${JSON.stringify(runs, null, 2)}\n` : formatRuns(runs);
}
