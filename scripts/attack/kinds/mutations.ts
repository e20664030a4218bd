import { createRandom } from "../../../src/base/random.js";
import { readInputs, seedDirectory } from "../../fuzz/corpus.js";
import { mutate } from "../../fuzz/mutation.js";
import type { ParserName } from "../../fuzz/target.js";
import type { Attempt } from "../attempt.js";
import { CONFIG, SHARD } from "../base.js";

/** Seeds from the fuzzing corpus, the file name that the mutated seed gets, and the command that reads it. */
const INPUTS: readonly (readonly [corpus: ParserName, file: string, args: readonly string[]])[] = [
  ["tfrecord", "in.tfrecord", ["verify", "in.tfrecord", "--config", CONFIG]],
  ["tfrecord", "in.tfrecord", ["convert", "--to", "pkl", "--filelist", "in.tfrecord", "--out", "out"]],
  ["pickle-shard", "in.pkl", ["inspect", "in.pkl"]],
  ["pickle-shard", "in.pkl", ["convert", "--to", "tfrecord", "--filelist", "in.pkl", "--out", "out"]],
  ["paddle-pickle", "in.pdparams", ["inspect", "in.pdparams"]],
  ["safetensors", "in.safetensors", ["inspect", "in.safetensors"]],
  ["npz", "in.npz", ["inspect", "in.npz"]],
  ["tar", "in.tar", ["export", "--weights", "in.tar", "--format", "npz", "--out", "out/x.npz"]],
  ["config", "in.yaml", ["verify", SHARD, "--config", "in.yaml"]],
  ["results", "in.csv", ["ensemble", "in.csv", "--save-dir", "out"]],
];
const MUTATIONS_EACH = 5;

/** Returns attempts with randomly mutated files; deterministic for a given seed. */
export function mutationAttempts(seed: number): readonly Attempt[] {
  return INPUTS.flatMap(([corpus, file, args], input) =>
    Array.from(
      { length: MUTATIONS_EACH },
      (_, number): Attempt => ({
        kind: "mutation",
        name: `${corpus}, seed ${seed}, number ${number}: ${args[0]}`,
        prepare: (place) => {
          const random = createRandom(seed, "digits", input, number);
          const goods = readInputs(seedDirectory(corpus));
          place.file(file, mutate(goods[random.below(goods.length)] as Uint8Array, random, goods));
        },
        args,
      }),
    ),
  );
}
