/**
 * Trains and evaluates on real data, AudioSet's balanced training set (audio only, about 10 frames per clip), once per seed. With `--peers`, each run is
 * followed by PyTorch training the same network with the same recipe. Prints MAP and GAP (top 20, as YouTube-8M defines them), full-ranking mAP computed
 * by scikit-learn, and the training speed. Then measures the speed of eval and infer on the evaluation clips.
 */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { writeFileAtomic } from "../../src/base/files.js";
import type { Level } from "../../src/runtime/processor.js";
import { oneDirectory, parseIsa, parseOptions, reject, wholeNumber } from "./arguments.js";
import { formatPasses, measurePasses } from "./audioset-passes.js";
import {
  type AudiosetRun,
  convertClips,
  findAudiosetShards,
  findPeer,
  formatRuns,
  trainOurs,
  trainPeer,
  type Workplace,
} from "./audioset-training.js";

export const AUDIOSET_USAGE = `usage: npm run bench -- audioset DIR [options]
  DIR                  directory with train*.tfrecord* and eval*.tfrecord* of AudioSet's audio features
  --seeds A,B          seeds to train with, or none, to measure only eval and infer (default 0,1,2)
  --epochs N           epochs of each training (default 12)
  --pairs N            number of interleaved measurements of eval, infer and the peers' forward pass (default 5)
  --isa LEVEL          hold nextvlad and the peers to a processor level, as above
  --peers PYTHON       also measure PyTorch with this interpreter, and compute full-ranking mAP with its scikit-learn
  --against DIR        also measure another checkout, which must be built
  --json               print one JSON object instead of Markdown tables
`;

/** The parsed command line. */
interface AudiosetSettings {
  readonly directory: string;
  readonly seeds: readonly number[];
  readonly epochs: number;
  readonly pairs: number;
  readonly isa: Level | null;
  readonly peers: string | undefined;
  /** Absolute path, or null. */
  readonly against: string | null;
  readonly json: boolean;
}

/** Parses the command line. Throws BAD_USAGE if an argument is invalid. */
export function readAudiosetArguments(argv: readonly string[]): AudiosetSettings {
  const { values, positionals } = parseOptions(argv, {
    seeds: { type: "string", default: "0,1,2" },
    epochs: { type: "string", default: "12" },
    pairs: { type: "string", default: "5" },
    isa: { type: "string" },
    peers: { type: "string" },
    against: { type: "string" },
    json: { type: "boolean", default: false },
  });
  const directory = oneDirectory(positionals);
  if (!/^(none|\d{1,9}(,\d{1,9})*)$/.test(values.seeds)) reject("--seeds", "integers separated by commas, or none", values.seeds);
  return {
    directory,
    seeds: values.seeds === "none" ? [] : values.seeds.split(",").map(Number),
    epochs: wholeNumber("--epochs", values.epochs),
    pairs: wholeNumber("--pairs", values.pairs),
    isa: parseIsa(values.isa),
    peers: values.peers,
    against: values.against === undefined ? null : resolve(values.against),
    json: values.json,
  };
}

/** Runs `npm run bench -- audioset`. Writes only to `folder`. Throws BAD_USAGE if an argument is invalid, and the errors of the commands that it runs. */
export async function benchAudioset(argv: readonly string[], folder: string, signal: AbortSignal): Promise<string> {
  const { directory, seeds, epochs, pairs, isa, peers, against, json } = readAudiosetArguments(argv);
  const python = peers === undefined ? null : { interpreters: peers.split(","), signal };
  const peer = python === null ? null : await findPeer(python);
  await mkdir(folder, { recursive: true });
  const makeList = async (split: string): Promise<string> => {
    const list = join(folder, `${split}.list`);
    await writeFileAtomic(list, (await findAudiosetShards(directory, split)).map((path) => `${path}\n`).join(""));
    return list;
  };
  const [trainList, evalList] = [await makeList("train"), await makeList("eval")];
  const place: Workplace = { folder, data: directory, trainList, evalList, epochs, isa, peer, signal };
  if (peer !== null && seeds.length > 0) await convertClips(place);
  const runs: AudiosetRun[] = [];
  const add = (run: AudiosetRun): void => {
    runs.push(run);
    process.stderr.write(`${JSON.stringify(run)}\n`);
  };
  for (const seed of seeds) {
    add(await trainOurs(seed, null, place));
    if (against !== null) add(await trainOurs(seed, against, place));
    if (peer !== null) add(await trainPeer(seed, peer, place));
  }
  const speeds = await measurePasses({ evalList, isa, pairs, against, python }, folder, signal);
  if (json) return `${JSON.stringify({ runs, ...speeds }, null, 2)}\n`;
  return [...(runs.length === 0 ? [] : [formatRuns(runs)]), formatPasses(speeds)].join("\n");
}
