import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { checkSnapshot } from "../../src/checkpoints/snapshot.js";
import { floatsOf } from "../../src/checkpoints/weight-source.js";
import { describeUpdateError } from "../helpers/golden.js";
import { trainInProcess } from "../helpers/training.js";

async function readArrays(path: string, optimizer: boolean): Promise<Map<string, Float32Array>> {
  const source = await openWeights(path, { optimizer });
  const arrays = new Map<string, Float32Array>();
  const floats = [...source.entries].filter(([, { dtype }]) => dtype === "f4").map(([name]) => name);
  for await (const array of source.read(new Set(floats))) arrays.set(array.name, floatsOf(array, path).slice());
  await source.close();
  return arrays;
}

// Partial results are tested in resume-results.test.ts.
for (const [commit, formatVersion] of [
  ["059705b", 2],
  ["08d4834", 4],
  ["a263992", 5],
  ["9885b78", 6],
] as const)
  describe(`files of commit ${commit} (scripts/golden/make-compat.ts), with snapshots of format version ${formatVersion}`, () => {
    const repository = process.cwd();
    let folder: string;

    before(() => {
      folder = mkdtempSync(join(tmpdir(), "compat-"));
      cpSync(resolve("test/golden/compat", commit), folder, { recursive: true });
      // The shard lists of the snapshots have relative paths.
      process.chdir(folder);
    });
    after(() => {
      process.chdir(repository);
      rmSync(folder, { recursive: true, force: true });
    });

    test("snapshots are complete and have their state", async () => {
      const places: Record<string, readonly number[]> = {};
      for (const name of readdirSync("run").filter((name) => name.startsWith("NEXTVLAD_"))) {
        assert.match(readFileSync(join("run", name, "state.json"), "utf8"), new RegExp(`^\\{\\s*"format_version": ${formatVersion},`));
        const { step, epoch, step_in_epoch } = await checkSnapshot(join("run", name));
        places[name] = [step, epoch, step_in_epoch];
      }
      assert.deepEqual(places, { NEXTVLAD_epoch0: [2, 1, 0], NEXTVLAD_step3: [3, 1, 1], NEXTVLAD_epoch1: [4, 2, 0] });
    });

    test("exported weights of each format have the snapshot's values, .pdparams with Adam's moments", async () => {
      const [weights, all] = [await readArrays("run/NEXTVLAD_epoch1", false), await readArrays("run/NEXTVLAD_epoch1", true)];
      assert.deepEqual([weights.size, all.size], [42, 42 + 2 * 29]);
      assert.deepEqual(sorted(await readArrays("exported.safetensors", false)), sorted(weights));
      assert.deepEqual(sorted(await readArrays("exported.npz", false)), sorted(weights));
      const exported = await readArrays("exported.pdparams", true);
      assert.deepEqual(sorted(new Map([...exported].filter(([name]) => all.has(name)))), sorted(all));
    });

    for (const start of ["NEXTVLAD_epoch0", "NEXTVLAD_step3"]) {
      test(`a run resumed from ${start} produces the same final weights as at that commit`, async () => {
        const { outcome } = await trainInProcess("config.yaml", `from-${start}`, { resume: join("run", start) });
        assert.equal(outcome.steps, 4);
        const [then, ours, theirs] = await Promise.all(
          [join("run", start), join(`from-${start}`, "NEXTVLAD_epoch1"), join("run", "NEXTVLAD_epoch1")].map((path) =>
            readArrays(path, true),
          ),
        );
        // Not bit-identical: another processor, or a kernel that changed since, rounds differently.
        for (const [name, values] of theirs as Map<string, Float32Array>) {
          if (name === "eigen_param") continue;
          const [before, after] = [then?.get(name), ours?.get(name)] as [Float32Array, Float32Array];
          assert.equal(describeUpdateError(before, after, values), null, name);
        }
      });
    }
  });

const sorted = (arrays: ReadonlyMap<string, Float32Array>): [string, Float32Array][] => [...arrays].sort(([a], [b]) => (a < b ? -1 : 1));
