/** A part of the code, and the tests that must detect changes to it. */
export interface Part {
  readonly name: string;
  /** Paths relative to src, without .ts. */
  readonly sources: readonly string[];
  /** Paths relative to test, without .test.ts. */
  readonly tests: readonly string[];
  /** Number of mutants per run, chosen by a hash of their keys, so that a code change affects few of them. */
  readonly sample: number;
}

export const PARTS: readonly Part[] = [
  {
    name: "network",
    sources: [
      ...["nextvlad", "netvlad", "layers", "share-norm", "network", "frozen", "dequantize", "parameters", "sizes", "weights"].map(
        (name) => `model/${name}`,
      ),
      "kernels/reference",
      "kernels/ragged",
    ],
    tests: [
      "model/parameters",
      "model/layers",
      "model/share-norm",
      "model/nextvlad",
      "model/netvlad",
      "kernels/kernels",
      "training/step",
      "training/golden",
      "training/state",
      "model/onnx",
    ],
    sample: 80,
  },
  {
    name: "kernels",
    // kernels/gpu.ts is excluded: it requires a GPU.
    sources: [...["cpu", "choose", "native-ops", "tensorflow-ops"].map((name) => `kernels/${name}`), "runtime/variables"],
    tests: [
      ...["kernels", "tensorflow-ops", "native-ops", "byte-products", "kernel-errors", "choose"].map((name) => `kernels/${name}`),
      "runtime/variables",
      "model/layers",
      "model/nextvlad",
      "model/netvlad",
      "training/step",
      "training/golden",
    ],
    sample: 30,
  },
  {
    name: "processor",
    sources: ["runtime/processor", "runtime/rounding", "base/threads"],
    tests: ["runtime/processor", "runtime/rounding", "base/threads"],
    sample: 30,
  },
  {
    name: "optimizer",
    sources: ["optim/adam", "training/step"],
    tests: ["optim/adam", "training/step", "training/golden"],
    sample: 30,
  },
  {
    name: "schedule",
    sources: ["optim/schedule", "base/interval"],
    tests: ["optim/schedule", "base/interval"],
    sample: 10,
  },
  {
    name: "metrics",
    sources: ["metrics", "top-k", "prediction-list"].map((name) => `evaluation/${name}`),
    tests: ["evaluation/top-k", "evaluation/metrics"],
    sample: 40,
  },
  {
    name: "ranking",
    sources: ["full-ranking", "score-rows"].map((name) => `evaluation/${name}`),
    tests: ["evaluation/full-ranking", "evaluation/score-rows"],
    sample: 40,
  },
  {
    name: "order",
    sources: [
      "base/random",
      ...["order", "batches", "block-cache", "epoch-videos", "shard-reader", "buffer-pool", "stream", "reader-pool"].map(
        (name) => `data/${name}`,
      ),
    ],
    tests: [
      "base/random",
      ...[
        "order",
        "batches",
        "block-cache",
        "epoch-videos",
        "buffer-pool",
        "reader-pool",
        "corrupt-records",
        "pickle-shard",
        "shard-reader",
        "stall-watch",
        "stream",
      ].map((name) => `data/${name}`),
    ],
    sample: 40,
  },
  {
    name: "snapshots",
    sources: [...["snapshot", "snapshot-layout", "snapshot-state", "snapshot-worker", "snapshot-writer", "background-writer"]]
      .map((name) => `checkpoints/${name}`)
      .concat(["saver", "start", "resume", "save-dir", "state", "train", "validation", "failure"].map((name) => `training/${name}`))
      .concat("passes/start-runtime", "passes/reader-threads"),
    tests: [
      ...["checkpoints/snapshot", "checkpoints/background-writer", "checkpoints/paddle-step"],
      ...["training/resume", "training/save-dir", "training/state", "training/saver", "training/train"],
    ],
    sample: 60,
  },
];
