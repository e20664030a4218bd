/**
 * Trains AudioSet's balanced training set with each recipe and seed, several runs side by side with one thread each, and prints the full-ranking mAP on the
 * evaluation clips. With `--hold-out`, trains without the last training shard and evaluates on it: settings are chosen on these clips.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { EMA } from "../../src/checkpoints/snapshot-layout.js";
import { oneDirectory, parseOptions, reject, wholeNumber } from "./arguments.js";
import { findAudiosetShards } from "./audioset-training.js";
import { AUDIOSET_BEST, audiosetConfigOf, cliOf, ROOT } from "./checkout.js";
import { runChild } from "./child.js";

export const RECIPES_USAGE = `usage: npm run bench -- recipes DIR [options]
  DIR                  directory with train*.tfrecord* and eval*.tfrecord* of AudioSet's audio features
  --seeds A,B          seeds to train with (default 0,1,2)
  --only A,B           names of the recipes to train (default: all)
  --jobs N             runs side by side, with one thread each (default 2)
  --hold-out           train without the last training shard, and evaluate on it instead of on eval*.tfrecord*
`;

interface Recipe {
  readonly name: string;
  readonly config: string;
  readonly settings: readonly string[];
}

const changed = (name: string, ...settings: readonly string[]): Recipe => ({ name, config: audiosetConfigOf(ROOT), settings });

/** The plain recipe, each technique alone, a mixture of about as many parameters, and the best combination with one network and with three. */
const RECIPES: readonly Recipe[] = [
  changed("plain"),
  changed("cosine", "TRAIN.lr_schedule=cosine"),
  changed("weight-decay", "TRAIN.weight_decay=0.05"),
  changed("hidden-dropout", "MODEL.hidden_drop_rate=0.5"),
  changed("ema", "TRAIN.ema_decay=0.999"),
  changed("mixup", "TRAIN.mixup=1"),
  changed("label-smoothing", "TRAIN.label_smoothing=0.01"),
  changed("class-balance", "TRAIN.class_balance=True"),
  changed("mixtures", "MODEL.num_mixtures=2"),
  changed("mix-nextvlad", "MODEL.name=MIX_NEXTVLAD", "MODEL.cluster_size=32", "MODEL.hidden_size=544"),
  { name: "best-single", config: AUDIOSET_BEST, settings: ["MODEL.name=NEXTVLAD"] },
  { name: "best", config: AUDIOSET_BEST, settings: [] },
];

interface RecipeSettings {
  readonly directory: string;
  readonly recipes: readonly Recipe[];
  readonly seeds: readonly number[];
  readonly jobs: number;
  readonly holdsOut: boolean;
}

/** Parses the command line. Throws BAD_USAGE if an argument is invalid. */
export function readRecipeArguments(argv: readonly string[]): RecipeSettings {
  const { values, positionals } = parseOptions(argv, {
    seeds: { type: "string", default: "0,1,2" },
    only: { type: "string" },
    jobs: { type: "string", default: "2" },
    "hold-out": { type: "boolean", default: false },
  });
  const directory = oneDirectory(positionals);
  if (!/^\d{1,9}(,\d{1,9})*$/.test(values.seeds)) reject("--seeds", "integers separated by commas", values.seeds);
  const recipes = values.only?.split(",").map((name) => {
    return RECIPES.find((recipe) => recipe.name === name) ?? reject("--only", RECIPES.map((recipe) => recipe.name).join(", "), name);
  });
  return {
    directory,
    recipes: recipes ?? RECIPES,
    seeds: values.seeds.split(",").map(Number),
    jobs: wholeNumber("--jobs", values.jobs),
    holdsOut: values["hold-out"],
  };
}

/** The result of one run. */
interface Score {
  /** The recipe's name, with "averaged weights" if they are those of TRAIN.ema_decay. */
  readonly name: string;
  readonly seed: number;
  readonly map: number;
  readonly mauc: number;
  /** Of training, with one thread, next to `jobs - 1` others. */
  readonly minutes: number;
}

/** The shards of the runs. */
interface Split {
  readonly trained: readonly string[];
  readonly evaluated: readonly string[];
}

async function splitShards({ directory, holdsOut }: RecipeSettings): Promise<Split> {
  const trained = await findAudiosetShards(directory, "train");
  return holdsOut
    ? { trained: trained.slice(0, -1), evaluated: trained.slice(-1) }
    : { trained, evaluated: await findAudiosetShards(directory, "eval") };
}

/** Trains a recipe and evaluates its last snapshot, and its averaged weights if it has them. */
async function trainRecipe(
  { name, config, settings }: Recipe,
  seed: number,
  split: Split,
  folder: string,
  signal: AbortSignal,
): Promise<Score[]> {
  const nextvlad = (...args: readonly string[]): Promise<string> =>
    runChild(process.execPath, [cliOf(ROOT), ...args, "--threads", "1"], signal);
  const saveDir = join(folder, `${name}-${seed}`);
  const sets = [`TRAIN.seed=${seed}`, `TRAIN.filelist=[${split.trained.join(", ")}]`, ...settings].flatMap((set) => ["--set", set]);
  const start = performance.now();
  const output = await nextvlad(
    "train",
    "--config",
    config,
    ...sets,
    "--valid-interval",
    "0",
    "--keep",
    "1",
    "--save-dir",
    saveDir,
    "--json",
  );
  const minutes = (performance.now() - start) / 60_000;
  const { last_snapshot: snapshot } = JSON.parse(output) as { readonly last_snapshot: string };
  const score = async (label: string, weights: string): Promise<Score> => {
    const flags = ["--weights", weights, "--filelist", ...split.evaluated, "--full-ranking", "--save-dir", `${saveDir}-results`, "--json"];
    const { metrics } = JSON.parse(await nextvlad("eval", ...flags)) as {
      readonly metrics: { readonly full_ranking: Pick<Score, "map" | "mauc"> };
    };
    const { map, mauc } = metrics.full_ranking;
    return { name: label, seed, map, mauc, minutes };
  };
  const averaged = join(snapshot, EMA);
  return [await score(name, snapshot), ...(existsSync(averaged) ? [await score(`${name}, averaged weights`, averaged)] : [])];
}

/** Formats the scores as a Markdown table: for each name, the mean and the range over its seeds. */
export function formatScores(scores: readonly Score[]): string {
  const rows = [...new Set(scores.map(({ name }) => name))].map((name) => {
    const own = scores.filter((score) => score.name === name);
    const show = (of: (score: Score) => number, digits: number): string => {
      const values = own.map(of);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return `${mean.toFixed(digits)} (${Math.min(...values).toFixed(digits)}..${Math.max(...values).toFixed(digits)})`;
    };
    return [name, String(own.length), show(({ map }) => map, 4), show(({ mauc }) => mauc, 4), show(({ minutes }) => minutes, 1)];
  });
  const header = ["recipe", "seeds", "full-ranking mAP", "mAUC", "minutes"];
  return [header, header.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

/** Runs `npm run bench -- recipes`. Writes only to `folder`. Throws BAD_USAGE if an argument is invalid, and the errors of the commands that it runs. */
export async function benchRecipes(argv: readonly string[], folder: string, signal: AbortSignal): Promise<string> {
  const settings = readRecipeArguments(argv);
  const split = await splitShards(settings);
  const runs = settings.recipes.flatMap((recipe) => settings.seeds.map((seed) => ({ recipe, seed })));
  const scores: Score[][] = runs.map(() => []);
  const waiting = [...runs.entries()];
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, { recipe, seed }] = next;
      const found = await trainRecipe(recipe, seed, split, folder, signal);
      for (const score of found) process.stderr.write(`${JSON.stringify(score)}\n`);
      scores[index] = found;
    }
  };
  await Promise.all(Array.from({ length: settings.jobs }, work));
  return formatScores(scores.flat());
}
