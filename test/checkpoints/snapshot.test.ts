import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import {
  checkSnapshot,
  copyToBest,
  findNewestSnapshot,
  findOutdated,
  type RunState,
  readSnapshotConfig,
  readSnapshotState,
  requireWeights,
  rewriteState,
  suggestEarlierSnapshot,
  writeSnapshot,
} from "../../src/checkpoints/snapshot.js";
import { stringifyWithChecksum } from "../../src/formats/checksum.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

const STATE: RunState = {
  step: 7,
  epoch: 1,
  step_in_epoch: 3,
  seed: 5,
  best: { epoch: 0, gap: 0.1 + 0.2 },
  validated_epoch: 0,
  shards: { count: 2, crc32c: "0123abcd", first_corrupt: [{ shard: 1, record: 7 }] },
};
const WRITTEN_BY = {
  nextvlad: "0.1.0",
  node: "v20.0.0",
  tensorflow: "2.21.0",
  device: "cpu",
  level: "avx2",
  threads: 2,
  ranks: 2,
  parts: 3,
};

const array = (name: string, values: readonly number[]) => ({ name, shape: [values.length], download: () => Float32Array.from(values) });

async function write(path: string, state: Partial<RunState> = {}, ema: readonly ReturnType<typeof array>[] = []): Promise<void> {
  await writeSnapshot(path, {
    weights: [array("w", [1, 2, 3])],
    moments: [array("w_moment1_0", [4, 5, 6])],
    ema,
    state: { ...STATE, ...state },
    configYaml: "MODEL: {}\n",
    writtenBy: WRITTEN_BY,
  });
}

/** As an earlier nextvlad wrote it. */
function makeVersion1(path: string): void {
  const file = join(path, "state.json");
  const { shards, written_by, files, crc32c, ...rest } = JSON.parse(readFileSync(file, "utf8"));
  assert.ok(shards !== undefined && written_by !== undefined && files !== undefined && crc32c !== undefined);
  writeFileSync(file, `${JSON.stringify({ ...rest, format_version: 1 }, null, 2)}\n`);
}

describe("a snapshot", () => {
  test("returns its state, with the length and checksum of each other file", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    await write(path);
    const { files, written_by, format_version, ...state } = await checkSnapshot(path);
    assert.deepEqual(state, STATE);
    assert.deepEqual([format_version, written_by], [7, WRITTEN_BY]);
    assert.deepEqual(Object.keys(files ?? {}).sort(), ["config.yaml", "optimizer.safetensors", "weights.safetensors"]);
    assert.equal(files?.["weights.safetensors"]?.bytes, readFileSync(join(path, "weights.safetensors")).length);
    // The CRC-32C of this text, computed with a bitwise implementation of RFC 3720, B.4.
    assert.equal(files?.["config.yaml"]?.crc32c, bitwiseCrc32c(Buffer.from("MODEL: {}\n")).toString(16).padStart(8, "0"));
  });

  test("has what a run with an interval in steps, early stopping and averages adds", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    const more = {
      best: { epoch: 1, gap: 0.5, map: 0.25, step: 4 },
      validated_step: 6,
      early_stopping: { metric: "map", best: 0.25, since: 1 },
    } as const;
    await write(path, more, [array("w", [7, 8, 9])]);
    const { files, written_by, format_version, ...state } = await checkSnapshot(path);
    assert.deepEqual(state, { ...STATE, ...more });
    assert.ok(files !== null && "ema.safetensors" in files);
    const best = await copyToBest(path, dirname(path), state);
    assert.deepEqual(readFileSync(join(best, "ema.safetensors")), readFileSync(join(path, "ema.safetensors")));
    truncateSync(join(best, "ema.safetensors"), 10);
    await failsWith(checkSnapshot(best), "BAD_SNAPSHOT", { file: join(best, "ema.safetensors") });
  });

  test("a change of any byte of any file is detected", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, "NEXTVLAD_step7");
    await write(path);
    const names = readdirSync(path).sort();
    assert.deepEqual(names, ["config.yaml", "optimizer.safetensors", "state.json", "weights.safetensors"]);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...names),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.integer({ min: 1, max: 255 }),
        async (name, place, flip) => {
          const file = join(path, name);
          const whole = readFileSync(file);
          const changed = Buffer.from(whole);
          const at = Math.floor(place * whole.length);
          changed[at] = (changed[at] as number) ^ flip;
          // Replacing one white space character by another does not change the JSON: only then there is no error.
          if (name === "state.json" && isSameJson(whole, changed)) return;
          writeFileSync(file, changed);
          const error = await failsWith(checkSnapshot(path), "BAD_SNAPSHOT");
          assert.equal(error.details.file, file);
          writeFileSync(file, whole);
        },
      ),
      { numRuns: 150 },
    );
    await checkSnapshot(path);
  });

  test("a change of the numbers in its state is detected", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    await write(path);
    const file = join(path, "state.json");
    const text = readFileSync(file, "utf8");
    for (const [then, now] of [
      ['"step": 7', '"step": 8'],
      ['"seed": 5', '"seed": 6'],
    ] as const) {
      assert.ok(text.includes(then));
      writeFileSync(file, text.replace(then, now));
      assert.match((await failsWith(readSnapshotState(path), "BAD_SNAPSHOT", { file })).message, /checksum/);
    }
  });

  test("an error names the missing files", async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, "file");
    writeFileSync(file, "x");
    for (const read of [readSnapshotState, readSnapshotConfig]) {
      assert.match(
        (await failsWith(read(folder), "BAD_SNAPSHOT", { file: folder })).message,
        /not a snapshot: weights\.safetensors, state\.json, config\.yaml missing/,
      );
      await failsWith(read(file), "BAD_SNAPSHOT", { file });
    }
  });

  test("nothing is written if it does not fit on the disk", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    let fetched = false;
    const download = () => {
      fetched = true;
      return new Float32Array(0);
    };
    const huge = { name: "w", shape: [2 ** 25, 2 ** 22], download };
    const writing = writeSnapshot(path, { weights: [], moments: [huge], state: STATE, configYaml: "" });
    await failsWith(writing, "FILE_UNWRITABLE");
    assert.equal(fetched, false);
  });

  test("truncated and missing files are detected", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, "NEXTVLAD_step7");
    await write(path);
    for (const name of readdirSync(path)) {
      const copy = join(folder, "copy");
      cpSync(path, copy, { recursive: true });
      truncateSync(join(copy, name), readFileSync(join(path, name)).length - 3);
      await failsWith(checkSnapshot(copy), "BAD_SNAPSHOT", { file: join(copy, name) });
      rmSync(join(copy, name));
      const error = await failsWith(checkSnapshot(copy), "BAD_SNAPSHOT", { file: copy });
      assert.match(error.message, new RegExp(`${name} missing`));
      rmSync(copy, { recursive: true });
    }
  });

  test("older format versions still load; unknown versions are an error", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    await write(path);
    const { crc32c: _, ...state } = JSON.parse(readFileSync(join(path, "state.json"), "utf8"));
    const { ranks: __, parts: ___, ...withThreads } = WRITTEN_BY;
    const { level: ____, threads: _____, ...written_by } = withThreads;
    const { first_corrupt: ______, ...shards } = state.shards;
    for (const older of [
      { format_version: 6 },
      { written_by: withThreads, format_version: 5 },
      { written_by, format_version: 4 },
      { written_by, shards, format_version: 3 },
      { written_by, shards, format_version: 2 },
    ]) {
      writeFileSync(join(path, "state.json"), stringifyWithChecksum({ ...state, ...older }));
      assert.deepEqual(await checkSnapshot(path), { ...state, ...older, format_version: 7 });
    }
    makeVersion1(path);
    assert.deepEqual(await checkSnapshot(path), { ...STATE, shards: null, format_version: 7, written_by: null, files: null });
    await requireWeights(path);
    await rewriteState(path, STATE);
    assert.deepEqual(await checkSnapshot(path), { ...STATE, format_version: 7, written_by: null, files: null });
    const file = join(path, "state.json");
    for (const [version, remedy] of [
      [8, /expected 1 to 7, found 8\)\. Use the version of nextvlad that wrote it, or a newer one/],
      [0, /found 0\)\. Use another/],
      ["x", /found x\)\. Use another/],
    ] as const) {
      writeFileSync(file, JSON.stringify({ format_version: version }));
      assert.match((await failsWith(checkSnapshot(path), "BAD_SNAPSHOT", { file })).message, remedy);
    }
    for (const text of ["", "7", "null", "{", '{"format_version":1}', '{"format_version":1,"step":-1}']) {
      writeFileSync(file, text);
      await failsWith(checkSnapshot(path), "BAD_SNAPSHOT", { file });
    }
  });

  test("a state with invalid values is an error that names the value, even if its checksum matches", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    await write(path);
    const file = join(path, "state.json");
    const { crc32c: _, ...state } = JSON.parse(readFileSync(file, "utf8"));
    const [entry] = Object.values(state.files);
    for (const [change, key, found] of [
      [{ files: { ...state.files, "../secret": entry } }, "files", "../secret"],
      [{ files: { "/etc/passwd": entry } }, "files", "/etc/passwd"],
      [{ files: { "..": entry } }, "files", ".."],
      [{ step_in_epoch: 8 }, "step_in_epoch", 8],
      [{ step: -1 }, "step", "-1"],
      [{ step: 1e300 }, "step", "1e+300"],
      [{ epoch: 1.5 }, "epoch", "1.5"],
      [{ seed: "x" }, "seed", '"x"'],
      [{ validated_epoch: 1 }, "validated_epoch", 1],
      [{ best: { epoch: 1, gap: 0.5 } }, "best.epoch", 1],
      [{ best: { epoch: 0, gap: 1.5 } }, "best.gap", 1.5],
      [{ best: { epoch: 2, gap: 0.5, step: 7 } }, "best.epoch", 2],
      [{ best: { epoch: 1, gap: 0.5, step: 8 } }, "best.step", 8],
      [{ validated_step: 8 }, "validated_step", 8],
      [{ early_stopping: { metric: "loss", best: 0.5, since: 0 } }, "early_stopping.metric", '"loss"'],
      [{ shards: { ...state.shards, count: 0 } }, "shards.count", 0],
      [{ shards: { ...state.shards, contents: { modified_ms: [1], ends_crc32c: [null, null] } } }, "shards.contents.modified_ms", 1],
      [{ shards: { ...state.shards, first_corrupt: [{ shard: 2, record: 0 }] } }, "shards.first_corrupt", 2],
      [{ shards: { ...state.shards, first_corrupt: [{ shard: 0, record: -1 }] } }, "shards.first_corrupt.0.record", "-1"],
      [{ written_by: { ...WRITTEN_BY, ranks: 0 } }, "written_by.ranks", "0"],
      [{ written_by: { ...WRITTEN_BY, parts: 1.5 } }, "written_by.parts", "1.5"],
    ] as const) {
      writeFileSync(file, stringifyWithChecksum({ ...state, ...change }));
      for (const read of [checkSnapshot, requireWeights]) {
        const { message } = await failsWith(read(path), "BAD_SNAPSHOT", { file, key, found });
        assert.match(message, /corrupt snapshot state/);
      }
    }
  });

  test("a checksum mismatch in a state of an older version is an error", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    await write(path);
    const file = join(path, "state.json");
    const { crc32c: _, ...state } = JSON.parse(readFileSync(file, "utf8"));
    const { first_corrupt: __, ...shards } = state.shards;
    const sealed = stringifyWithChecksum({ ...state, format_version: 2, shards });
    writeFileSync(file, sealed);
    await checkSnapshot(path);
    writeFileSync(file, sealed.replace('"step": 7', '"step": 8'));
    const { message } = await failsWith(checkSnapshot(path), "BAD_SNAPSHOT", { file });
    assert.match(message, /checksum mismatch/);
  });

  test("checks close the files that they open", async (t) => {
    const folder = temporaryFolder(t);
    for (const step of [4, 7]) await write(join(folder, `NEXTVLAD_step${step}`), { step });
    const diverged = new NextvladError("NOT_FINITE", "diverged");
    const { details } = await suggestEarlierSnapshot(diverged, join(folder, "NEXTVLAD_step7"));
    assert.equal(details.remedy, `use the newest valid snapshot before it: ${join(folder, "NEXTVLAD_step4")}`);
    const descriptors = readdirSync("/proc/self/fd").map((name) => {
      try {
        return readlinkSync(join("/proc/self/fd", name));
      } catch {
        return "";
      }
    });
    assert.deepEqual(
      descriptors.filter((path) => path.startsWith(folder)),
      [],
    );
  });

  test("corrupt weights are an error also if only weights are needed", async (t) => {
    const path = join(temporaryFolder(t), "NEXTVLAD_step7");
    await write(path);
    const file = join(path, "weights.safetensors");
    const bytes = readFileSync(file);
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1;
    writeFileSync(file, bytes);
    await failsWith(requireWeights(path), "BAD_SNAPSHOT", { file });
    // Without a state there is no checksum to compare with.
    rmSync(join(path, "state.json"));
    await requireWeights(path);
  });

  test("best and a rewritten state keep the checksums", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, "NEXTVLAD_epoch0");
    await write(path);
    const state = { ...STATE, epoch: 2, best: { epoch: 1, gap: 0.5 }, validated_epoch: 1 };
    await rewriteState(path, state);
    const best = await copyToBest(path, folder, state);
    for (const snapshot of [path, best]) {
      const { files, ...found } = await checkSnapshot(snapshot);
      assert.deepEqual(found, { ...state, format_version: 7, written_by: WRITTEN_BY });
      assert.equal(Object.keys(files ?? {}).length, 3);
    }
  });
});

describe("the newest snapshot", () => {
  test("has the most steps, an epoch's before a step's before best; corrupt ones are skipped and listed", async (t) => {
    const folder = temporaryFolder(t);
    assert.deepEqual(await findNewestSnapshot(folder), { path: null, skipped: [] });
    assert.deepEqual(await findNewestSnapshot(join(folder, "nowhere")), { path: null, skipped: [] });
    const at = (name: string): string => join(folder, name);
    for (const [name, step] of [
      ["NEXTVLAD_step9", 9],
      ["NEXTVLAD_step10", 10],
      ["NEXTVLAD_epoch0", 10],
      ["NETVLAD_step10", 10],
      ["best", 10],
      ["NEXTVLAD_step100", 100],
      ["NEXTVLAD_step110", 110],
    ] as const) {
      await write(at(name), { step });
    }
    writeFileSync(at("NEXTVLAD_step5"), "no directory");
    writeFileSync(at("NEXTVLAD_stepx"), "");
    const newest = async (): Promise<[string | null, string[]]> => {
      const { path, skipped } = await findNewestSnapshot(folder);
      return [path, skipped.map(({ name }) => name)];
    };
    assert.deepEqual(await newest(), [at("NEXTVLAD_step110"), ["NEXTVLAD_step5"]]);
    truncateSync(join(at("NEXTVLAD_step110"), "optimizer.safetensors"), 20);
    assert.deepEqual(await newest(), [at("NEXTVLAD_step100"), ["NEXTVLAD_step5", "NEXTVLAD_step110"]]);
    renameSync(join(at("NEXTVLAD_step100"), "weights.safetensors"), at("x"));
    for (const expected of ["NEXTVLAD_epoch0", "NETVLAD_step10", "NEXTVLAD_step10", "best", "NEXTVLAD_step9"]) {
      assert.equal((await newest())[0], at(expected));
      rmSync(at(expected), { recursive: true });
    }
    const [path, skipped] = await newest();
    assert.deepEqual([path, skipped.sort()], [null, ["NEXTVLAD_step100", "NEXTVLAD_step110", "NEXTVLAD_step5"]]);
  });

  test("is never removed by rotation, nor are best and unreadable ones", async (t) => {
    const folder = temporaryFolder(t);
    for (const step of [2, 4, 10, 12]) await write(join(folder, `NEXTVLAD_step${step}`), { step, step_in_epoch: 0 });
    await write(join(folder, "NEXTVLAD_epoch0"), { step: 8 });
    await write(join(folder, "best"), { step: 1, step_in_epoch: 0 });
    await write(join(folder, "NEXTVLAD_step1"), { step: 1, step_in_epoch: 0 });
    writeFileSync(join(folder, "NEXTVLAD_step1", "state.json"), "{");
    assert.deepEqual(await findOutdated(folder, 3, "NEXTVLAD_step12"), ["NEXTVLAD_step4", "NEXTVLAD_step2"]);
    assert.deepEqual(await findOutdated(folder, 1, "NEXTVLAD_step12"), [
      "NEXTVLAD_step10",
      "NEXTVLAD_epoch0",
      "NEXTVLAD_step4",
      "NEXTVLAD_step2",
    ]);
    assert.deepEqual(await findOutdated(folder, 9, "NEXTVLAD_step12"), []);
    // A run that skipped step 12 as corrupt has written step 10, which is now the newest: step 12 is neither counted nor removed.
    assert.deepEqual(await findOutdated(folder, 1, "NEXTVLAD_step10"), ["NEXTVLAD_epoch0", "NEXTVLAD_step4", "NEXTVLAD_step2"]);
    assert.equal((await readSnapshotState(join(folder, "NEXTVLAD_step12"))).step, 12);
  });
});

function isSameJson(a: Buffer, b: Buffer): boolean {
  try {
    return JSON.stringify(JSON.parse(a.toString())) === JSON.stringify(JSON.parse(b.toString()));
  } catch {
    return false;
  }
}

function bitwiseCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
