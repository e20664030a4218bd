/**
 * Measures the accuracy loss of `--precision int16` and `int8` on the golden case and, if given, on a snapshot and labeled shards: the difference of the
 * probabilities from float32, how often the top class is the same, and the GAP. Prints a Markdown table.
 */
import { NextvladError } from "../../src/base/errors.js";
import { fillAllArrays } from "../../src/checkpoints/arrays.js";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { readSnapshotConfig } from "../../src/checkpoints/snapshot.js";
import { buildConfig } from "../../src/config/load.js";
import { resolveShards } from "../../src/data/file-list.js";
import type { RaggedBatch } from "../../src/data/video.js";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { TopSelector } from "../../src/evaluation/top-k.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import type { Precision } from "../../src/kernels/types.js";
import { type DropRates, dropRates } from "../../src/model/drop-rates.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { parameterTable } from "../../src/model/network.js";
import { type ModelSizes, modelSizes } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { openReading } from "../../src/passes/reading.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { loadGolden } from "../../test/helpers/golden.js";

const USAGE = "usage: node dist/scripts/bench/precision.js [SNAPSHOT LIST]";

/** A model and the videos to evaluate it on. */
interface Trial {
  readonly name: string;
  readonly sizes: ModelSizes;
  readonly dropRates: DropRates;
  readonly store: WeightStore;
  readonly batches: readonly RaggedBatch[];
}

interface Row {
  readonly precision: Precision;
  readonly largest: number;
  readonly mean: number;
  readonly sameFirst: number;
  readonly gap: number;
}

function compare({ sizes, dropRates, store, batches }: Trial): Row[] {
  const { classes } = sizes;
  const selector = new TopSelector();
  let exact: readonly Float32Array[] = [];
  return (["float32", "int16", "int8"] as const).map((precision) => {
    const network = new FrozenNetwork(sizes, dropRates, store, chooseKernels(), precision);
    const predicted = batches.map((batch) => tidy(() => toFloats(network.probabilities(batch))));
    network.dispose();
    if (precision === "float32") exact = predicted;
    const metrics = new MetricsAccumulator(classes);
    let [largest, sum, values, same, videos] = [0, 0, 0, 0, 0];
    for (const [i, batch] of batches.entries()) {
      const [ours, theirs] = [predicted[i] as Float32Array, exact[i] as Float32Array];
      metrics.add(ours, batch.labels);
      for (const [at, value] of ours.entries()) {
        const change = Math.abs(value - (theirs[at] as number));
        largest = Math.max(largest, change);
        sum += change;
      }
      values += ours.length;
      const firstClass = (of: Float32Array, video: number) => selector.selectRow(of, video, classes, 1).classes[0];
      for (const video of batch.ids.keys()) if (firstClass(ours, video) === firstClass(theirs, video)) same++;
      videos += batch.ids.length;
    }
    return { precision, largest, mean: sum / values, sameFirst: same / videos, gap: metrics.result().gap };
  });
}

function goldenTrial(): Trial {
  const golden = loadGolden("small");
  const store = new WeightStore(parameterTable(golden.sizes));
  for (const { name } of store.table) store.variable(name).upload(golden.weights.get(name)?.values as Float32Array);
  return { name: "golden", sizes: golden.sizes, dropRates: { descriptor: 0, hidden: 0 }, store, batches: [golden.batch] };
}

async function ownTrial(snapshot: string, list: string): Promise<Trial> {
  const config = buildConfig(await readSnapshotConfig(snapshot), snapshot);
  const sizes = modelSizes(config.MODEL);
  const store = new WeightStore(parameterTable(sizes));
  const source = await openWeights(snapshot, { optimizer: false });
  await fillAllArrays(source, store.arrays(), "use other weights");
  await source.close();
  const shards = await resolveShards(list, { cwd: process.cwd() });
  const stream = openReading({ model: config.MODEL, labels: "required", shards, batchSize: 32, readers: 1, onCorrupt: "error" });
  const batches: RaggedBatch[] = [];
  // Copy each batch: later batches reuse its memory.
  for await (const batch of stream) batches.push(structuredClone(batch));
  await stream.close();
  return { name: list, sizes, dropRates: dropRates(config.MODEL), store, batches };
}

try {
  const [snapshot, list, ...rest] = process.argv.slice(2);
  if (rest.length > 0 || (snapshot !== undefined && list === undefined)) throw new Error(USAGE);
  await loadTensorflow(false);
  const trials = [goldenTrial(), ...(snapshot === undefined || list === undefined ? [] : [await ownTrial(snapshot, list)])];
  const lines = trials.flatMap((trial) =>
    compare(trial).map(({ precision, largest, mean, sameFirst, gap }) => {
      const cells = [
        trial.name,
        precision,
        largest.toExponential(1),
        mean.toExponential(1),
        `${(100 * sameFirst).toFixed(2)} %`,
        gap.toFixed(6),
      ];
      return `| ${cells.join(" | ")} |`;
    }),
  );
  const header = [
    "| videos | precision | largest change | mean change | same first class | GAP |",
    "| --- | --- | --- | --- | --- | --- |",
  ];
  process.stdout.write(`${[...header, ...lines].join("\n")}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof NextvladError ? error.exitCode : 1;
}
