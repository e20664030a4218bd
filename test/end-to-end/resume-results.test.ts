import assert from "node:assert/strict";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { lockDirectory } from "../../src/base/lock.js";
import { interruptNextvlad, runNextvlad, signalNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";

/** Batches of 2 videos: enough that a pass takes about a second, and a signal arrives during it. */
const BATCHES = 700;

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "resume-results-"));
  const config = await prepareRun(folder, { validateVideos: 2 * BATCHES });
  await finished("train", "--config", config, "--save-dir", at("run"), "--epoch", "2", "--valid-interval", "0");
});
after(() => rmSync(folder, { recursive: true, force: true }));

interface Case {
  readonly command: "eval" | "infer";
  readonly flags: readonly string[];
  /** Returns the log line of a step. */
  readonly step: (number: number) => string;
  readonly stem: string;
  readonly results: readonly string[];
}

const cases: readonly Case[] = [
  {
    command: "infer",
    flags: ["--format", "pickle,csv,jsonl"],
    step: (number) => `Processed ${number} batches`,
    stem: "NEXTVLAD_infer_result",
    results: ["NEXTVLAD_infer_result.pkl", "NEXTVLAD_infer_result.csv", "NEXTVLAD_infer_result.jsonl"],
  },
  {
    command: "eval",
    flags: ["--predictions", "--full-ranking"],
    step: (number) => `iter ${number} `,
    stem: "NEXTVLAD_eval_result",
    results: ["NEXTVLAD_eval_result.json", "NEXTVLAD_eval_diagnostics.json", "NEXTVLAD_eval_predictions.pkl"],
  },
];

function commandOf({ command, flags }: Case, saveDir: string, ...more: string[]): string[] {
  const reading = ["--weights", at("run", "NEXTVLAD_epoch1"), "--batch-size", "2", "--log-interval", "1"];
  return [command, ...reading, ...flags, "--save-dir", at(saveDir), ...more];
}

/** For a pass that is not interrupted, and whose log is not checked. */
const FEW_LINES = ["--log-interval", "100"];

async function finished(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout + stderr;
}

const stateOf = ({ stem }: Case, saveDir: string): string => at(saveDir, `${stem}.partial`, "state.json");
const batchesIn = (file: string): number => (JSON.parse(readFileSync(file, "utf8")) as { batches: number }).batches;
const visible = (saveDir: string): string[] => readdirSync(at(saveDir)).filter((name) => !name.endsWith(".log.jsonl"));

function assertSameEnd({ command, results }: Case, saveDir: string): void {
  for (const name of results) assert.deepEqual(readFileSync(at(saveDir, name)), readFileSync(at(`${command}-whole`, name)), name);
  assert.deepEqual(visible(saveDir).sort(), [...results].sort());
}

for (const each of cases) {
  const { command, step, stem } = each;

  describe(command, { concurrency: 2 }, () => {
    before(async () => {
      await finished(...commandOf(each, `${command}-whole`, ...FEW_LINES));
      await signalNextvlad(commandOf(each, `${command}-stopped`), step(100), "SIGINT");
    });

    test("stopped by a signal, keeps its results and prints the resume command, which completes to the same bytes", async () => {
      const args = commandOf(each, `${command}-signal`, "--resume");
      const first = await signalNextvlad(args, step(300), "SIGTERM");
      assert.equal(first.exitCode, 143, first.output);
      assert.match(first.output, /--resume finds no partial results in \S+\.partial: starting from the beginning/);
      const [, videos, folder, words] =
        /stopped after (\d+) videos; partial results are in (\S+)\nresume with: nextvlad (.*)\n$/.exec(first.output) ?? [];
      assert.equal(folder, at(`${command}-signal`, `${stem}.partial`));
      assert.equal(words, args.join(" "));
      const batches = batchesIn(stateOf(each, `${command}-signal`));
      assert.ok(batches >= 300 && batches < BATCHES && Number(videos) === 2 * batches, `${batches} batches, ${videos} videos`);
      assert.deepEqual(visible(`${command}-signal`), [`${stem}.partial`]);
      const second = await finished(...args);
      assert.match(second, new RegExp(`resuming after batch ${batches}: ${videos} videos are done`));
      assert.doesNotMatch(second, new RegExp(step(batches - 1)));
      assertSameEnd(each, `${command}-signal`);
    });

    test("killed repeatedly, resumes from its last save and completes to the same bytes", async () => {
      const saveDir = `${command}-killed`;
      for (const [kill, words] of [step(200), step(500)].entries()) {
        // Saves at varying positions modulo 1,000, the batch length of a list in a pickle.
        const args = commandOf(each, saveDir, "--resume", "--save-interval", String(37 + kill));
        const { signal, output } = await interruptNextvlad(args, words, (child) => child.kill("SIGKILL"));
        assert.equal(signal, "SIGKILL", output);
        if (kill > 0) assert.match(output, /the previous run in this directory did not end normally: process \d+/);
      }
      const batches = batchesIn(stateOf(each, saveDir));
      assert.ok(batches >= 460, `saved after ${batches} batches`);
      await finished(...commandOf(each, saveDir, "--resume", ...FEW_LINES));
      assertSameEnd(each, saveDir);
    });

    test("SIGUSR1 saves immediately, and the run continues", async () => {
      const saveDir = `${command}-asked`;
      let look: NodeJS.Timeout | undefined;
      const { exitCode, output } = await signalNextvlad(commandOf(each, saveDir), step(200), "SIGUSR1", () => {
        look = setInterval(() => {
          if (!existsSync(stateOf(each, saveDir))) return;
          clearInterval(look);
          cpSync(at(saveDir, `${stem}.partial`), at(`${saveDir}-copy`), { recursive: true });
        }, 5);
      });
      clearInterval(look);
      assert.equal(exitCode, 0, output);
      assert.match(output, /SIGUSR1: saving, then continuing/);
      assert.ok(batchesIn(at(`${saveDir}-copy`, "state.json")) >= 200);
      assertSameEnd(each, saveDir);
    });

    test("without --resume, starts over and reports the discarded results", async () => {
      const saveDir = `${command}-afresh`;
      cpSync(at(`${command}-stopped`), at(saveDir), { recursive: true });
      const said = await finished(...commandOf(each, saveDir, ...FEW_LINES));
      assert.match(
        said,
        /WARN: starting from the beginning: removed the partial results of \d+ videos in \S+; use --resume to continue them/,
      );
      assertSameEnd(each, saveDir);
    });

    test("does not resume with other settings or from corrupt files, and keeps the partial results", async () => {
      const saveDir = `${command}-other`;
      cpSync(at(`${command}-stopped`), at(saveDir), { recursive: true });
      const kept = readdirSync(at(saveDir, `${stem}.partial`)).sort();
      writeFileSync(at("one.list"), "validate1.tfrecord\n");
      const others: readonly [readonly string[], RegExp][] =
        command === "eval"
          ? [
              [["--set", "MODEL.drop_rate=0.25"], /MODEL\.drop_rate: .*\(expected 0\.5, found 0\.25\)/],
              [["--precision", "int16"], /TEST\.precision: .*\(expected float32, found int16\)/],
              [["--predictions", "csv"], /--predictions: .*\(expected pickle, found csv\)/],
            ]
          : [
              [["--batch-size", "3"], /INFER\.batch_size: .*\(expected 2, found 3\)\. Use the earlier value, or start from the beginning/],
              [["--weights", at("run", "NEXTVLAD_epoch0")], /--weights: .*\(expected weights with checksum \w{8}, found weights with/],
              [["--filelist", at("one.list")], /INFER\.filelist: .*\(expected 2 shards, .*, found 1 shards, /],
              [["--infer-topk", "3"], /--infer-topk: .*\(expected 6, found 3\)/],
            ];
      for (const [flags, message] of others) {
        const { exitCode, error } = await runNextvlad(commandOf(each, saveDir, "--resume", ...flags));
        assert.equal(exitCode, 2, error);
        assert.match(error, message);
      }
      if (command === "eval") {
        const { exitCode, error } = await runNextvlad(commandOf({ ...each, flags: ["--predictions"] }, saveDir, "--resume"));
        assert.equal(exitCode, 2, error);
        assert.match(error, /--full-ranking: .*\(expected set, found nothing\)/);
      }
      assert.deepEqual(readdirSync(at(saveDir, `${stem}.partial`)).sort(), kept);
      const file = at(saveDir, `${stem}.partial`, kept.find((name) => name.endsWith(".pkl")) as string);
      const bytes = readFileSync(file);
      bytes[50] = (bytes[50] as number) ^ 1;
      writeFileSync(file, bytes);
      const { exitCode, error } = await runNextvlad(commandOf(each, saveDir, "--resume"));
      assert.equal(exitCode, 1);
      assert.match(
        error,
        /\.pkl: the partial results have changed since they were saved \(expected checksum \d+, found \d+\)\. Start from the beginning/,
      );
      rmSync(file);
      const without = await runNextvlad(commandOf(each, saveDir, "--resume"));
      assert.equal(without.exitCode, 1);
      assert.match(without.error, /\.pkl: a file of the partial results is missing\. Start from the beginning/);
      assert.deepEqual(
        readdirSync(at(saveDir, `${stem}.partial`)).sort(),
        kept.filter((name) => at(saveDir, `${stem}.partial`, name) !== file),
      );
    });

    test("killed while moving the files to their final paths, only moves the rest when resumed", async () => {
      const saveDir = `${command}-placing`;
      const args = commandOf(each, saveDir, "--save-interval", "100");
      // A folder at the path of the last file, created after the start of the run: everything but the rename of that file succeeds.
      const last = at(saveDir, each.results.at(-1) as string);
      const onPrint = () => cpSync(at("run", "NEXTVLAD_epoch0"), last, { recursive: true });
      const { exitCode, error } = await runNextvlad([...args, ...FEW_LINES], { onPrint });
      assert.equal(exitCode, 1, error);
      assert.match(error, /cannot replace it: it is not a regular file \(found a directory\)/);
      renameSync(last, `${last}.aside`);
      rmSync(`${last}.aside`, { recursive: true });
      const said = await finished(...args, "--resume");
      assert.match(said, new RegExp(`resuming after batch ${BATCHES}: ${2 * BATCHES} videos are done`));
      assert.doesNotMatch(said, new RegExp(step(1)));
      assertSameEnd(each, saveDir);
    });
  });
}

test("infer uses batches of 32 if the config has PaddleVideo's batch size of 1, logs by time, and resumes with the same batch size", async () => {
  const [infer] = cases as [Case];
  const config = at("recipe.json");
  const settings = JSON.parse(readFileSync(at("config.yaml"), "utf8")) as { INFER: Record<string, unknown> };
  writeFileSync(config, JSON.stringify({ ...settings, INFER: { ...settings.INFER, batch_size: 1 } }));
  const args = (...more: string[]) => ["infer", "--config", config, "--weights", at("run", "NEXTVLAD_epoch1"), ...infer.flags, ...more];

  const startMs = performance.now();
  const whole = await finished(...args("--save-dir", at("recipe-whole")));
  assert.match(whole, /batch size 32 \(INFER\.batch_size = 1 in the config is ignored\); set another one with --batch-size/);
  const lines = whole.match(/Processed \d+ batches/g) ?? [];
  assert.ok(lines.length <= (performance.now() - startMs) / 10_000, `${lines.length} lines`);

  const begun = args("--save-dir", at("recipe-resumed"), "--batch-size", "2", "--log-interval", "1");
  await signalNextvlad(begun, infer.step(300), "SIGTERM");
  const resumed = await finished(...args("--save-dir", at("recipe-resumed"), "--resume"));
  assert.match(resumed, /INFO: batch size 2 \(/);
  assertSameEnd(infer, "recipe-resumed");
});

test("only one run at a time writes a result", async () => {
  const [each] = cases as [Case];
  const partial = at("twice", "NEXTVLAD_infer_result.partial");
  mkdirSync(partial, { recursive: true });
  // This process stands for the other run.
  const lock = await lockDirectory(partial);
  const refused = await spawnNextvlad(commandOf(each, "twice"));
  assert.equal(refused.exitCode, 1);
  assert.match(
    refused.error,
    /\.partial\S*: another run is writing to this directory: process \d+ on .*Wait for it, stop it, or use another --save-dir/,
  );
  await lock.release();
  const { exitCode, stderr } = await spawnNextvlad(commandOf(each, "twice"));
  assert.equal(exitCode, 0, stderr);
  assertSameEnd(each, "twice");
  assert.ok(statSync(at("twice", "NEXTVLAD_infer_result.pkl")).size > 0);
});

for (const [commit, version, hasMistakes] of [
  ["059705b", 1, false],
  ["08d4834", 3, false],
  ["a263992", 4, false],
  ["9885b78", 4, true],
] as const) {
  test(`partial results of version ${version} (commit ${commit}) resume, with the same metrics as at that commit`, async () => {
    const copy = at(commit);
    cpSync(join("test/golden/compat", commit), copy, { recursive: true });
    const state = readFileSync(join(copy, "stopped/NEXTVLAD_eval_result.partial/state.json"), "utf8");
    assert.equal(JSON.parse(state).format_version, version);
    const flags = ["--weights", "run/NEXTVLAD_epoch1", "--batch-size", "4", "--predictions", "--save-dir", "stopped", "--resume"];
    const { exitCode, stderr } = await runNextvlad(["eval", ...flags], { cwd: copy });
    assert.equal(exitCode, 0, stderr);
    assert.match(stderr, /resuming after batch 9: 36 videos are done/);
    const [found, expected] = ["stopped", "whole"].map((name) =>
      JSON.parse(readFileSync(join(copy, name, "NEXTVLAD_eval_result.json"), "utf8")),
    );
    const diagnosticsOf = (name: string) => JSON.parse(readFileSync(join(copy, name, "NEXTVLAD_eval_diagnostics.json"), "utf8"));
    const { diagnostics_version, mistakes, confused_pairs } = diagnosticsOf("stopped");
    assert.equal(diagnostics_version, 1);
    if (hasMistakes) {
      const whole = diagnosticsOf("whole");
      const idsOf = (list: readonly { readonly id: string }[]): readonly string[] => list.map(({ id }) => id);
      assert.deepEqual([idsOf(mistakes), confused_pairs], [idsOf(whole.mistakes), whole.confused_pairs]);
    } else {
      // These commits did not record the mistakes, so those of the first 36 videos are unknown.
      assert.deepEqual([mistakes, confused_pairs], [null, null]);
    }
    // Version 1 did not count videos without labels.
    if (version === 1) assert.equal(found.videos_without_labels, null);
    // Kernels may have changed their rounding since.
    for (const [name, value] of Object.entries(expected)) {
      const pairs = Array.isArray(value) ? value.map((one, c) => [found[name][c], one]) : [[found[name], value]];
      for (const [one, other] of pairs) assert.ok(Math.abs(one - other) < 1e-5, `${name}: ${one} is not ${other}`);
    }
  });
}
