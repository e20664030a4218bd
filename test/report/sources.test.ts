import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readSources } from "../../src/report/sources.js";
import { temporaryFolder } from "../helpers/files.js";
import { writeEvaluation, writeRunLog } from "../helpers/reports.js";

test("reads runs and evaluations, each directory once", async (t) => {
  const folder = temporaryFolder(t);
  const [run, both] = [join(folder, "run"), join(folder, "both")];
  writeRunLog(run);
  writeRunLog(both);
  writeEvaluation(both);
  writeFileSync(join(run, "config.yaml"), "MODEL: {name: NEXTVLAD, topk: 20}\nTRAIN: {filelist: [a, b]}\n");
  writeFileSync(join(both, "config.yaml"), "{");
  const { runs, evaluations } = await readSources([run, `${both}/`, both, `${run}//`]);
  assert.deepEqual(
    [runs, evaluations].map((list) => list.map(({ name }) => name)),
    [[run, both], [both]],
  );
  const config = { "MODEL.name": "NEXTVLAD", "MODEL.topk": "20", "TRAIN.filelist": '["a","b"]' };
  assert.deepEqual(
    runs.map(({ config }) => Object.fromEntries(config)),
    [config, {}],
  );
  assert.equal(evaluations[0]?.diagnostics.classes.aps.length, 20);
});

test("several evaluations in a directory have the names of their models", async (t) => {
  const folder = temporaryFolder(t);
  writeEvaluation(folder);
  const text = JSON.stringify((await readSources([folder])).evaluations[0]?.diagnostics);
  writeFileSync(join(folder, "NETVLAD_eval_diagnostics.json"), text.replace("{", '{"diagnostics_version":1,'));
  const { evaluations } = await readSources([folder]);
  assert.deepEqual(
    evaluations.map(({ name }) => name),
    [`${folder}, NETVLAD`, `${folder}, NEXTVLAD`],
  );
});

test("a directory that is missing, foreign, or of an older version is an error", async (t) => {
  const folder = temporaryFolder(t);
  const at = (...names: string[]): string => join(folder, ...names);
  mkdirSync(at("foreign"));
  writeFileSync(at("foreign/photo.jpg"), "");
  mkdirSync(at("old"));
  writeFileSync(at("old/NEXTVLAD_eval_result.json"), "{}");
  mkdirSync(at("broken"));
  writeFileSync(at("broken/NEXTVLAD_eval_diagnostics.json"), "{");
  mkdirSync(at("binary"));
  writeFileSync(at("binary/train.log.jsonl"), Buffer.of(0xff, 0xfe));
  const cases: readonly [string, string, RegExp][] = [
    ["missing", "FILE_MISSING", /missing: file not found/],
    ["foreign/photo.jpg", "FILE_UNREADABLE", /it is not a directory\. Pass the --save-dir of train or eval\.$/],
    ["foreign", "FILE_MISSING", /contains no run and no evaluation \(expected train\.log\.jsonl or \*_eval_diagnostics\.json\)\. Pass/],
    ["old", "FILE_MISSING", /older versions did not write \(.*found NEXTVLAD_eval_result\.json\)\. Run eval again\.$/],
    ["broken", "BAD_FORMAT", /NEXTVLAD_eval_diagnostics\.json: the diagnostics of an evaluation are not JSON/],
    ["binary", "BAD_FORMAT", /train\.log\.jsonl, line 1: not UTF-8 text/],
  ];
  for (const [name, code, message] of cases) await assert.rejects(readSources([at(name)]), { code, message }, name);
});
