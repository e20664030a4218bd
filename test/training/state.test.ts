import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import type { WeightSource } from "../../src/checkpoints/weight-source.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { parameterTable } from "../../src/model/network.js";
import { modelSizes } from "../../src/model/sizes.js";
import { createState, type TrainingState } from "../../src/training/state.js";
import { encodeNpy } from "../helpers/npy.js";
import { failsWith } from "../helpers/shards.js";
import { type Arrays, configWith, isMoment, STATE, useSnapshots } from "../helpers/start.js";

describe("createState", () => {
  const { at, write, options, arrays } = useSnapshots();

  const valuesOf = ({ store, optimizer }: TrainingState): Map<string, Float32Array> => {
    const values = new Map([...store.arrays(), ...optimizer.arrays()].map(({ name, download }) => [name, download()]));
    optimizer.dispose();
    store.dispose();
    return values;
  };
  /** Opens a source that records whether it was closed. */
  async function watched(path: string, optimizer: boolean): Promise<{ source: WeightSource; closed: () => boolean }> {
    const source = await openWeights(path, { optimizer });
    let isClosed = false;
    const close = (): Promise<void> => {
      isClosed = true;
      return source.close();
    };
    return { source: { ...source, entries: source.entries, read: (names) => source.read(names), close }, closed: () => isClosed };
  }

  test("initial values are a function of the seed; eigen_param is the configured factor", async () => {
    const fresh = async (train: Record<string, unknown>, model: Record<string, unknown> = {}) =>
      valuesOf(await createState(configWith(train, { eigen_file: null, ...model }), null, chooseKernels(), await options()));
    const [one, same, other] = [await fresh({}), await fresh({}), await fresh({ seed: 6 })];
    assert.deepEqual(one, same);
    for (const { name, initializer, shape } of parameterTable(modelSizes(configWith().MODEL))) {
      const values = one.get(name) as Float32Array;
      if (initializer === "msra") {
        assert.notDeepEqual(values, other.get(name), name);
        // Standard deviation sqrt(2 / fan-in), within five standard errors.
        const deviation = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
        const expected = Math.sqrt(2 / (shape[0] as number));
        assert.ok(Math.abs(deviation - expected) < (5 * expected) / Math.sqrt(2 * values.length), `${name}: ${deviation}, not ${expected}`);
      } else {
        assert.ok(
          values.every((value) => value === (initializer === "zeros" ? 0 : 1)),
          name,
        );
      }
    }
    for (const [name, values] of one)
      if (isMoment(name))
        assert.ok(
          values.every((value) => value === 0),
          name,
        );
    writeFileSync(
      at("eigen.npy"),
      encodeNpy(
        Float32Array.from({ length: 12 }, (_, i) => 4 ** (i % 3)),
        [12],
      ),
    );
    const factor = (await fresh({}, { eigen_file: at("eigen.npy") })).get("eigen_param") as Float32Array;
    assert.ok(
      factor.every((value, i) => Math.abs(value - (2 ** (i % 3) + 1e-4)) < 1e-6),
      String(factor),
    );
  });

  test("resuming restores every array and moment and the state, and closes the source", async () => {
    const { source, closed } = await watched(at("run", "NEXTVLAD_step8"), true);
    const given = await options({ resume: source });
    const state = await createState(configWith(), { run: STATE, writtenBy: null, source: "a test" }, chooseKernels(), given);
    assert.deepEqual(state.run, STATE);
    assert.deepEqual(valuesOf(state), new Map(Array.from(arrays(), ([name, { values }]) => [name, values])));
    assert.ok(closed());
    assert.match(given.log(), /resuming from \S+NEXTVLAD_step8: epoch 1, step 8 \(a test\)/);
    const other = await options({ resume: await openWeights(at("run", "NEXTVLAD_step8"), { optimizer: true }) });
    const misfit = createState(configWith({}, { num_classes: 8 }), { run: STATE, writtenBy: null, source: "" }, chooseKernels(), other);
    await failsWith(misfit, "BAD_WEIGHTS");
    await other.resume?.close();
  });

  test("pretrained weights fill the arrays that match, the others are initialized, and all counts start at 0", async () => {
    const fresh = valuesOf(await createState(configWith({}, { eigen_file: null }), null, chooseKernels(), await options()));
    const { source, closed } = await watched(at("run", "NEXTVLAD_step8"), false);
    const given = await options({ pretrain: source });
    const state = await createState(configWith({}, { num_classes: 8, eigen_file: "nowhere.npy" }), null, chooseKernels(), given);
    assert.deepEqual(state.run, { step: 0, epoch: 0, step_in_epoch: 0, seed: 5, best: null, validated_epoch: null, shards: null });
    assert.ok(closed());
    const values = valuesOf(state);
    for (const [name, { values: pretrained }] of arrays()) {
      const found = values.get(name) as Float32Array;
      if (name.startsWith("logits_clf_")) assert.equal(found.length, (pretrained.length / 7) * 8);
      else assert.deepEqual(found, isMoment(name) ? fresh.get(name) : pretrained, name);
    }
    assert.match(given.log(), /40 of 42 arrays/);
  });

  test("snapshots with non-finite values or logits are an error that names the newest valid one before", async () => {
    const changed = (name: string, change: (value: number, i: number) => number): Arrays => {
      const { shape, values } = arrays().get(name) as { shape: readonly number[]; values: Float32Array<ArrayBuffer> };
      return new Map(arrays()).set(name, { shape, values: values.map(change) });
    };
    const nan = changed("gating_fc2_weights", (value, i) => (i === 3 ? Number.NaN : value));
    const huge = changed("hidden1_fc_weights", (_, i) => (i % 2 === 0 ? 3e38 : -3e38));
    const infinite = changed("hidden1_fc_weights_moment2_0", () => Number.POSITIVE_INFINITY);
    await write(at("diverged", "NEXTVLAD_step7"), { state: { step: 7 } });
    await write(at("diverged", "NEXTVLAD_step8"), { arrays: nan });
    await write(at("diverged", "NEXTVLAD_step9"), { state: { step: 9 }, arrays: huge });
    await write(at("diverged", "NEXTVLAD_step10"), { state: { step: 10 }, arrays: infinite });
    for (const [name, words, earlier] of [
      ["NEXTVLAD_step8", /gating_fc2_weights: the weights contain NaN or Inf.*found NaN at index 3/, "NEXTVLAD_step7"],
      ["NEXTVLAD_step9", /the model computes NaN or Inf from these weights/, "NEXTVLAD_step7"],
      ["NEXTVLAD_step10", /hidden1_fc_weights_moment2_0: the weights contain NaN or Inf.*found Infinity at index 0/, "NEXTVLAD_step9"],
    ] as const) {
      const source = await openWeights(at("diverged", name), { optimizer: true });
      const starting = createState(
        configWith(),
        { run: STATE, writtenBy: null, source: "" },
        chooseKernels(),
        await options({ resume: source }),
      );
      const { message } = await failsWith(starting, "NOT_FINITE", { file: at("diverged", name) });
      assert.match(message, words);
      assert.ok(message.includes(`Use the newest valid snapshot before it: ${at("diverged", earlier)}.`), message);
      await source.close();
    }
  });

  test("a warning names a single missing array", async () => {
    const kept = Array.from(arrays()).filter(([name]) => !isMoment(name) && name !== "gating_fc2_weights");
    const tensors = kept.map(([name, { shape, values }]) => ({ name, dtype: "F32" as const, shape, data: values }));
    writeFileSync(at("part.safetensors"), Buffer.concat([...encodeSafetensors(tensors)]));
    const given = await options({ pretrain: (await watched(at("part.safetensors"), false)).source });
    valuesOf(await createState(configWith(), null, chooseKernels(), given));
    assert.match(given.log(), /WARN: .*gating_fc2_weights \[3, 12\] is missing/);
  });

  test("pretrained weights of which no array matches are an error", async () => {
    const data = Float32Array.of(1);
    writeFileSync(at("alien.safetensors"), Buffer.concat([...encodeSafetensors([{ name: "x", dtype: "F32", shape: [1], data }])]));
    const { source } = await watched(at("alien.safetensors"), false);
    const started = createState(configWith(), null, chooseKernels(), await options({ pretrain: source }));
    await failsWith(started, "BAD_WEIGHTS", { file: at("alien.safetensors") });
    await source.close();
  });
});
