import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before } from "node:test";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { type RunState, writeSnapshot } from "../../src/checkpoints/snapshot.js";
import { formatConfig } from "../../src/config/keys.js";
import { buildConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { modelSizes } from "../../src/model/sizes.js";
import { Adam } from "../../src/optim/adam.js";
import type { StartOptions } from "../../src/training/options.js";
import { randomStore } from "./blocks.js";
import { loadForTests } from "./device.js";
import { captureTelemetry } from "./training.js";

const MODEL = {
  num_classes: 7,
  cluster_size: 3,
  groups: 4,
  expansion: 2,
  hidden_size: 12,
  gating_reduction: 4,
  video_feature_size: 12,
  audio_feature_size: 6,
};

/** Returns the config of a small model. */
export const configWith = (train: Record<string, unknown> = {}, model: Record<string, unknown> = {}): Config =>
  buildConfig({ MODEL: { ...MODEL, ...model }, TRAIN: { batch_size: 16, seed: 5, ...train } }, "c.yaml");

/** The state of a run within epoch 1. */
export const STATE: RunState = { step: 8, epoch: 1, step_in_epoch: 2, seed: 5, best: null, validated_epoch: 0, shards: null };

export const isMoment = (name: string): boolean => /_moment\d_0$/.test(name);

/** Weights and moments by name. */
export type Arrays = ReadonlyMap<string, { readonly shape: readonly number[]; readonly values: Float32Array<ArrayBuffer> }>;

/** How a snapshot differs from that of `STATE` and `configWith()`. */
interface SnapshotChanges {
  readonly state?: Partial<RunState>;
  readonly train?: Record<string, unknown>;
  /** Appended to the config. */
  readonly comment?: string;
  readonly arrays?: Arrays;
}

/** In a suite: creates the save-dir `run` before its tests, with a snapshot within epoch 1 and one at the end of epoch 0, and removes it after them. */
export function useSnapshots() {
  let directory: string;
  let initial: Arrays;
  const at = (...names: string[]): string => join(directory, ...names);

  async function write(path: string, { state, train, comment = "", arrays = initial }: SnapshotChanges = {}): Promise<void> {
    const sources = Array.from(arrays, ([name, { shape, values }]) => ({ name, shape, download: () => values }));
    await writeSnapshot(path, {
      weights: sources.filter(({ name }) => !isMoment(name)),
      moments: sources.filter(({ name }) => isMoment(name)),
      state: { ...STATE, ...state },
      configYaml: formatConfig(configWith(train)) + comment,
    });
  }

  /** The options of a new run in another save-dir, and its log. */
  async function options(overrides: Partial<StartOptions> = {}): Promise<StartOptions & { readonly log: () => string }> {
    const { telemetry, log } = await captureTelemetry();
    const none = { resume: null, resumeStep: null, skippedSnapshots: [], pretrain: null, overwrite: false, limitVideos: null };
    return { saveDir: at("new"), ...none, telemetry, ...overrides, log };
  }

  /** The options of a run that resumes in the save-dir `run`. */
  async function resuming(path: string, overrides: Partial<StartOptions> = {}) {
    return options({ saveDir: at("run"), resume: await openWeights(path, { optimizer: true }), ...overrides });
  }

  before(async () => {
    await loadForTests();
    directory = mkdtempSync(join(tmpdir(), "start-"));
    const store = randomStore(modelSizes(configWith().MODEL));
    const adam = new Adam(store, chooseKernels());
    let value = 0;
    for (const moment of adam.arrays()) moment.upload(Float32Array.from(moment.download(), () => (value += 1e-3)));
    initial = new Map([...store.arrays(), ...adam.arrays()].map(({ name, shape, download }) => [name, { shape, values: download() }]));
    adam.dispose();
    store.dispose();
    await write(at("run", "NEXTVLAD_step8"));
    await write(at("run", "NEXTVLAD_epoch0"), { state: { step: 6, step_in_epoch: 0, epoch: 1 } });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  return { at, write, options, resuming, arrays: () => initial };
}

/** Closes the weights that a run would start from. */
export async function closeWeights({ resume, pretrain }: StartOptions): Promise<void> {
  await resume?.close();
  await pretrain?.close();
}
