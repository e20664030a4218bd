import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { copyToBest, readSnapshotState } from "../../src/checkpoints/snapshot.js";
import { formatConfig } from "../../src/config/keys.js";
import type { StartOptions } from "../../src/training/options.js";
import { checkSaveDir } from "../../src/training/save-dir.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";
import { closeWeights, configWith, STATE, useSnapshots } from "../helpers/start.js";

describe("checkSaveDir", () => {
  const { at, write, options, resuming } = useSnapshots();

  async function check(given: StartOptions): Promise<readonly string[]> {
    const snapshot = given.resume?.snapshot ?? null;
    return checkSaveDir(configWith(), snapshot === null ? null : await readSnapshotState(snapshot), given).finally(() =>
      closeWeights(given),
    );
  }

  test("another run's snapshots conflict, unless they may be overwritten or are corrupt", async () => {
    const error = await failsWith(check(await options({ saveDir: at("run") })), "SAVE_DIR_TAKEN", { file: at("run") });
    assert.match(error.message, /NEXTVLAD_epoch0, NEXTVLAD_step8/);
    const allowed = await check(await options({ saveDir: at("run"), overwrite: true }));
    assert.deepEqual(allowed, ["NEXTVLAD_epoch0", "NEXTVLAD_step8"]);
    const checked = await check(await options({ saveDir: at("run"), skippedSnapshots: allowed }));
    assert.deepEqual(checked, []);
    assert.deepEqual(await check(await options()), []);
  });

  test("a config or a best that train did not write conflicts, unless it may be overwritten", async (t) => {
    const saveDir = temporaryFolder(t);
    const config = join(saveDir, "config.yaml");
    const start = async (overwrite = false) => check(await options({ saveDir, overwrite }));
    const own = formatConfig(configWith());
    const edited = own.replace("num_classes: 7", "num_classes:  7");
    assert.notEqual(edited, own);
    const foreign = ["# mine\nMODEL:\n  num_classes: 7\n", `${own}# kept\n`, own.replaceAll(/ *#.*\n/g, ""), edited, "not: a config\n", ""];
    for (const text of foreign) {
      writeFileSync(config, text);
      const error = await failsWith(start(), "FILE_UNWRITABLE", { file: config });
      assert.match(error.message, /the file already exists\. Use another path, or replace it with --overwrite/);
      await start(true);
    }
    writeFileSync(config, own);
    await start();
    writeFileSync(config, formatConfig(configWith({ batch_size: 3 })));
    await start();
    // Versions before --max-record-bytes did not write this key; other versions wrote other comments.
    const before = own.replace(/ *#.*\n *max_record_bytes:.*\n/, "").replace("# epochs to train", "# epochs");
    assert.ok(own.length - before.length > 50);
    writeFileSync(config, before);
    await start();
    // A resumed run recognizes its own config, also that of an earlier version.
    const old = "MODEL:\n  num_classes: 7\n";
    const snapshot = join(saveDir, "NEXTVLAD_step8");
    await write(snapshot, { comment: "# old\n" });
    const resume = async () => check(await resuming(snapshot, { saveDir }));
    await resume();
    writeFileSync(config, readFileSync(join(snapshot, "config.yaml")));
    await resume();
    writeFileSync(config, old);
    await failsWith(resume(), "FILE_UNWRITABLE", { file: config });
    rmSync(config);
    mkdirSync(join(saveDir, "best"));
    await resume();
    writeFileSync(join(saveDir, "best", "photo.jpg"), "mine");
    await failsWith(resume(), "SAVE_DIR_TAKEN", { file: join(saveDir, "best") });
    // A corrupt snapshot named `best` counts as ours.
    writeFileSync(join(saveDir, "best", "weights.safetensors"), "half");
    await resume();
  });

  test("snapshots later than the one resumed from conflict, also best", async () => {
    assert.deepEqual(await check(await resuming(at("run", "NEXTVLAD_step8"))), []);
    // One later snapshot is enough.
    await failsWith(check(await resuming(at("run", "NEXTVLAD_epoch0"))), "SAVE_DIR_TAKEN");
    cpSync(at("run"), at("later"), { recursive: true });
    // Epoch 1 ends after step 8; the resumed snapshot is at step 6.
    await write(at("later", "NEXTVLAD_epoch1"), { state: { step: 12, epoch: 2, step_in_epoch: 0 } });
    await write(at("later", "NEXTVLAD_step6"), { state: { step: 6, epoch: 1, step_in_epoch: 0 } });
    const given = async (overrides: Partial<StartOptions> = {}) =>
      check(await resuming(at("later", "NEXTVLAD_epoch0"), { saveDir: at("later"), ...overrides }));
    const error = await failsWith(given(), "SAVE_DIR_TAKEN");
    assert.match(error.message, /later than the one to resume from: NEXTVLAD_epoch1, NEXTVLAD_step8\. /);
    for (const [step, expected] of [
      [6, ["NEXTVLAD_epoch1", "NEXTVLAD_step8"]],
      [7, ["NEXTVLAD_epoch1", "NEXTVLAD_step8", "best"]],
    ] as const) {
      rmSync(at("later", "best"), { recursive: true, force: true });
      await copyToBest(at("later", "NEXTVLAD_epoch0"), at("later"), { ...STATE, step });
      assert.deepEqual([...(await given({ overwrite: true }))].sort(), expected);
    }
  });

  test("snapshots of another model conflict, and best with them, even earlier ones", async () => {
    cpSync(at("run", "NEXTVLAD_step8"), at("mixed", "NEXTVLAD_step8"), { recursive: true });
    await write(at("mixed", "NETVLAD_epoch0"), { state: { step: 6, epoch: 1, step_in_epoch: 0 } });
    await copyToBest(at("mixed", "NETVLAD_epoch0"), at("mixed"), { ...STATE, step: 6 });
    const given = async (overrides: Partial<StartOptions> = {}) =>
      check(await resuming(at("mixed", "NEXTVLAD_step8"), { saveDir: at("mixed"), ...overrides }));
    const error = await failsWith(given(), "SAVE_DIR_TAKEN");
    assert.match(
      error.message,
      /snapshots of another model: NETVLAD_epoch0, best\. Use another --save-dir, or --overwrite to replace them/,
    );
    assert.deepEqual(await given({ overwrite: true }), ["NETVLAD_epoch0", "best"]);
  });
});
