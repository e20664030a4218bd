import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { NextvladError } from "../../src/base/errors.js";
import { resolveShards } from "../../src/data/file-list.js";
import type { Level } from "../../src/runtime/processor.js";
import { audiosetConfigOf, cliOf, ROOT } from "./checkout.js";
import { runChild } from "./child.js";
import { isaEnvironment } from "./isa.js";
import { findPeerScript, interpreterWith, type Python } from "./peers.js";
import { formatSpread, spreadOf } from "./statistics.js";

const FULL_RANKING = join(ROOT, "scripts/bench/full_ranking.py");
const CLASSES = 527;
const BATCH = 128;

/** Results of one training run. */
export interface AudiosetRun {
  /** "nextvlad", "PyTorch", or the path of another checkout. */
  readonly name: string;
  readonly seed: number;
  readonly map: number;
  readonly gap: number;
  /** Mean of scikit-learn's average precisions over all clips; null if no interpreter with scikit-learn is given. */
  readonly full_ranking_map: number | null;
  readonly clips_per_second: number;
}

/** Settings shared by all runs. */
export interface Workplace {
  readonly folder: string;
  readonly data: string;
  readonly trainList: string;
  readonly evalList: string;
  readonly epochs: number;
  readonly isa: Level | null;
  /** PyTorch, with scikit-learn; null without `--peers`. */
  readonly peer: Peer | null;
  readonly signal: AbortSignal;
}

/** The peer's script and the interpreter to run it with. */
export interface Peer {
  readonly script: string;
  readonly python: string;
}

/** Returns the paths of AudioSet's shards of a split, "train" or "eval", in a directory. Throws FILE_MISSING if there are none. */
export async function findAudiosetShards(directory: string, split: string): Promise<string[]> {
  return (await resolveShards(join(directory, `${split}*.tfrecord*`), { cwd: directory })).map(({ path }) => path);
}

interface LogLine {
  /** ISO 8601. */
  readonly time: string;
  readonly msg: string;
  readonly step?: number;
}

/** Runs nextvlad, of this checkout unless another one is given. */
function nextvlad(args: readonly string[], { isa, signal }: Workplace, root = ROOT): Promise<string> {
  return runChild(process.execPath, [cliOf(root), ...args], signal, isaEnvironment(isa));
}

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

/** Converts the clips to evaluate on for the peer's metrics. */
export async function convertClips(place: Workplace): Promise<void> {
  await mkdir(place.folder, { recursive: true });
  const convert = ["--feature-names", "rgb,audio_embedding", "--filelist", place.evalList, "--out", join(place.folder, "videos")];
  await nextvlad(["convert", "--to", "pkl", ...convert], place);
}

/** Computes MAP and GAP over each clip's top 20 classes, and full-ranking mAP, from a file of predictions for all classes. */
async function score(pickle: string, place: Workplace): Promise<Pick<AudiosetRun, "map" | "gap" | "full_ranking_map">> {
  const saveDir = `${pickle}.metrics`;
  const flags = ["--filelist", place.evalList, "--config", audiosetConfigOf(ROOT), "--save-dir", saveDir];
  await nextvlad(["ensemble", pickle, ...flags], place);
  const { map, gap } = JSON.parse(await readFile(join(saveDir, "NEXTVLAD_ensemble_metrics.json"), "utf8")) as { map: number; gap: number };
  if (place.peer === null) return { map, gap, full_ranking_map: null };
  const videos = await resolveShards(join(place.folder, "videos", "eval.list"), { cwd: place.folder });
  const printed = await runChild(place.peer.python, [FULL_RANKING, pickle, ...videos.map(({ path }) => path)], place.signal);
  return { map, gap, full_ranking_map: (JSON.parse(printed) as { map: number }).map };
}

/** Trains and evaluates nextvlad, of this checkout or of another one, given by its path. */
export async function trainOurs(seed: number, checkout: string | null, place: Workplace): Promise<AudiosetRun> {
  const root = checkout ?? ROOT;
  const saveDir = join(place.folder, `${checkout === null ? "nextvlad" : "other"}-${seed}`);
  const sets = [`TRAIN.filelist=${place.trainList}`, `TRAIN.epoch=${place.epochs}`].flatMap((set) => ["--set", set]);
  const seeded = ["--config", audiosetConfigOf(root), "--fix-random-seed", String(seed), ...sets];
  await nextvlad(["train", ...seeded, "--valid-interval", "0", "--keep", "1", "--save-dir", saveDir], place, root);
  const weights = join(saveDir, `NEXTVLAD_epoch${place.epochs - 1}`);
  const results = join(saveDir, "predictions");
  const reading = ["--filelist", place.evalList, "--batch-size", "256", "--infer-topk", String(CLASSES), "--save-dir", results];
  await nextvlad(["infer", "--weights", weights, ...reading], place, root);
  const clips_per_second = await readPace(join(saveDir, "train.log.jsonl"));
  const scores = await score(join(results, "NEXTVLAD_infer_result.pkl"), place);
  return { name: checkout ?? "nextvlad", seed, ...scores, clips_per_second };
}

/** Computes the peer's clips per second from the number of training clips and the seconds per epoch in its output. */
export function readPeerPace(output: string): number {
  const clips = Number(/^(\d+) \d+$/m.exec(output)?.[1]);
  const seconds = [...output.matchAll(/^epoch \d+ loss [\d.]+ ([\d.]+) s$/gm)].map((match) => Number(match[1]));
  const total = seconds.reduce((sum, value) => sum + value, 0);
  return (Math.floor(clips / BATCH) * BATCH * seconds.length) / total;
}

/** Finds the peer's script and interpreter, before hours of training. Throws FILE_MISSING or NOT_SET_UP if one is missing. */
export async function findPeer({ interpreters, signal }: Python): Promise<Peer> {
  const script = await findPeerScript("audioset_torch.py");
  const python = await interpreterWith("torch", { interpreters, signal });
  return { script, python: await interpreterWith("sklearn", { interpreters: [python], signal }) };
}

/** Trains and evaluates PyTorch. */
export async function trainPeer(seed: number, { script, python }: Peer, place: Workplace): Promise<AudiosetRun> {
  const out = join(place.folder, `torch-${seed}.pkl`);
  const globs = ["train", "eval"].map((split) => join(place.data, `${split}*.tfrecord*`));
  const args = [script, ...globs, out, "--epochs", String(place.epochs), "--seed", String(seed)];
  const output = await runChild(python, args, place.signal, isaEnvironment(place.isa));
  return { name: "PyTorch", seed, ...(await score(out, place)), clips_per_second: readPeerPace(output) };
}

/** Formats the runs as a Markdown table, with the median of each name's runs. */
export function formatRuns(runs: readonly AudiosetRun[]): string {
  const show = (value: number | null): string => (value === null ? "" : value.toFixed(4));
  const rows = runs.map((run) => [
    run.name,
    String(run.seed),
    show(run.map),
    show(run.gap),
    show(run.full_ranking_map),
    run.clips_per_second.toFixed(0),
  ]);
  for (const name of new Set(runs.map((run) => run.name))) {
    const own = runs.filter((run) => run.name === name);
    if (own.length < 2) continue;
    const spread = (of: (run: AudiosetRun) => number, digits: number): string => formatSpread(spreadOf(own.map(of)), digits);
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
