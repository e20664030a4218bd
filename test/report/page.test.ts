import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { findAccessibilityProblems, findChromium, launchChromium, openFile, waitUntil } from "../helpers/browser.js";
import { repository, runNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { HOSTILE, writeEvaluation, writeRunLog } from "../helpers/reports.js";
import { prepareRun } from "../helpers/runs.js";

let folder: string;
const at = (...names: string[]): string => join(folder, ...names);

async function report(name: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(["report", ...args, "--out", at(name)]);
  assert.equal(exitCode, 0, stderr);
  assert.equal(stdout, `report: ${at(name)}\n`);
  return at(name);
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), "nextvlad-report-"));
  writeRunLog(at("first"));
  writeEvaluation(at("first"));
  writeRunLog(at(HOSTILE.replaceAll("/", "-")), { seed: 5, steps: 20 });
  writeEvaluation(at("second"), { seed: 6, named: false });
  writeEvaluation(at("large"), { videos: 100_000, classes: 3862 });
});
after(() => rmSync(folder, { recursive: true, force: true }));

test("the same files give the same page, which replaces only reports", async () => {
  const page = readFileSync(await report("a.html", at("first")), "utf8");
  assert.equal(readFileSync(await report("a.html", at("first")), "utf8"), page);
  assert.ok(page.includes("Permission is hereby granted"), "the license of the charts' library");
  writeFileSync(at("b.html"), "mine");
  const { exitCode, error } = await runNextvlad(["report", at("first"), "--out", at("b.html")]);
  assert.equal(exitCode, 1);
  assert.match(error, /b\.html: the file already exists\. Use another path, or replace it with --overwrite\.$/);
  assert.equal(readFileSync(at("b.html"), "utf8"), "mine");
  await report("b.html", at("first"), "--overwrite");
});

test("names in --labels replace those of the evaluation", async () => {
  writeFileSync(at("names.txt"), Array.from({ length: 20 }, (_, c) => `Other ${c}\n`).join(""));
  const page = readFileSync(await report("named.html", at("first"), "--labels", at("names.txt")), "utf8");
  assert.ok(page.includes(">Other 7<") && !page.includes(">Class name 7<"));
});

test("published results are shown for 3,862 classes only", async () => {
  const published = (path: string): boolean => readFileSync(path, "utf8").includes("published (PaddleVideo)");
  assert.deepEqual([published(await report("small.html", at("first"))), published(await report("large.html", at("large")))], [false, true]);
});

test("train and eval write the report of their save-dir with --report", async () => {
  const config = await prepareRun(folder);
  const [run, results] = [at("run"), at("results")];
  const trained = await runNextvlad(["train", "--config", config, "--save-dir", run, "--report"]);
  assert.equal(trained.exitCode, 0, trained.stderr);
  assert.ok(trained.stdout.endsWith(`report: ${join(run, "report.html")}\n`), trained.stdout);
  const weights = ["--weights", join(run, "best"), "--save-dir", results];
  const evaluated = await runNextvlad(["eval", ...weights, "--report", "--full-ranking"]);
  assert.equal(evaluated.exitCode, 0, evaluated.stderr);
  assert.ok(evaluated.stdout.endsWith(`report: ${join(results, "report.html")}\n`), evaluated.stdout);
  const [training, evaluation] = [run, results].map((saveDir) => readFileSync(join(saveDir, "report.html"), "utf8")) as [string, string];
  const result = readFileSync(join(results, "NEXTVLAD_eval_result.json"), "utf8");
  const { gap, full_ranking: full } = JSON.parse(result) as { gap: number; full_ranking: { mauc: number } };
  assert.ok(training.includes(`${gap.toFixed(4)} (epoch `), "the best validation is of the same videos and weights");
  assert.ok(training.includes("MODEL.cluster_size"), "the config");
  assert.ok(evaluation.includes(`<th scope="row">GAP<td class="number">${gap.toFixed(4)}`), "GAP");
  assert.ok(evaluation.includes(`<th scope="row">mAUC (full ranking)<td class="number">${full.mauc.toFixed(4)}`), "mAUC");
  assert.ok(!evaluation.includes("MAP@K of segments"));
  writeFileSync(join(results, "report.html"), "mine");
  const again = await runNextvlad(["eval", ...weights, "--report"]);
  assert.equal(again.exitCode, 1);
  assert.match(again.error, /report\.html: the file already exists/);
});

const executable = findChromium();

describe("in Chromium", { skip: executable === null ? "Chromium is not installed" : false }, () => {
  let browser: Browser;
  let comparison: string;
  before(async () => {
    browser = await launchChromium(executable as string);
    comparison = await report("comparison.html", at("first"), at(HOSTILE.replaceAll("/", "-")), at("second"));
  });
  after(() => browser.close());

  const SCHEMES = ["light", "dark"] as const;
  const backgroundOf = (page: Page): Promise<string> => page.evaluate<string>("getComputedStyle(document.body).backgroundColor");

  const VIEWPORTS = [
    { width: 400, height: 800 },
    { width: 1440, height: 900 },
  ] as const;
  type Viewport = (typeof VIEWPORTS)[number];

  /** Asserts that the page has no error, no request and no accessibility problem in both color schemes, which differ, and 10 charts. */
  async function checkInBothSchemes(path: string, viewport: Viewport): Promise<void> {
    const backgrounds = new Set<string>();
    for (const colorScheme of SCHEMES) {
      const { page, requests, errors } = await openFile(browser, path, { viewport, colorScheme });
      assert.equal(await page.locator("canvas").count(), 10);
      assert.equal(await page.locator(".plot").count(), 10);
      // Opens everything that can be opened.
      await page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true");
      assert.deepEqual(await findAccessibilityProblems(page), []);
      const width = await page.evaluate<number>("document.documentElement.scrollWidth");
      assert.ok(width <= viewport.width, `${width} pixels wide`);
      backgrounds.add(await backgroundOf(page));
      assert.deepEqual({ requests, errors }, { requests: [], errors: [] });
      await page.context().close();
    }
    assert.equal(backgrounds.size, 2);
  }

  for (const viewport of VIEWPORTS) {
    test(`the page has no error, no request and no accessibility problem at ${viewport.width} pixels, in both color schemes`, () =>
      checkInBothSchemes(comparison, viewport));
  }

  test("hostile text is shown as text", async () => {
    const { page, errors } = await openFile(browser, comparison);
    assert.match(await page.title(), /^nextvlad report: /);
    assert.equal(await page.locator("img, main b").count(), 0);
    const shown = HOSTILE.replace("\u202e", "\\u202E").replace("\u001b", "\\x1B");
    assert.ok(((await page.locator("main").textContent()) as string).includes(shown));
    assert.deepEqual(errors, []);
    await page.context().close();
  });

  test("charts are redrawn in another color scheme and size, and show values at the pointer", async () => {
    const { page, errors } = await openFile(browser, comparison, { viewport: { width: 1440, height: 900 }, colorScheme: "light" });
    const pixels = (): Promise<string> => page.evaluate<string>("document.querySelector('canvas').toDataURL()");
    const light = await pixels();
    await page.emulateMedia({ colorScheme: "dark" });
    await waitUntil(page, `document.querySelector('canvas').toDataURL() !== ${JSON.stringify(light)}`);
    await page.setViewportSize({ width: 400, height: 800 });
    await waitUntil(
      page,
      "innerWidth === 400 && document.querySelector('.plot').clientWidth === document.querySelector('.uplot').clientWidth",
    );
    await page.locator(".plot").first().hover();
    await waitUntil(page, "document.querySelector('.readout').textContent !== ''");
    assert.match((await page.locator(".readout").first().textContent()) as string, /^step [\d,]+: .*first [\d.]+/);
    assert.deepEqual(errors, []);
    await page.context().close();
  });

  const TABLE = ".searchable table";
  // Not by role, which takes seconds among thousands of rows.
  const headingOf = (page: Page, name: string) => page.locator(`${TABLE} th`, { hasText: new RegExp(`^${name}$`) });
  /** Returns the texts of a column's first cells. */
  const cellsOf = (page: Page, column: number): Promise<string[]> =>
    page.evaluate<string[]>(
      `Array.from(document.querySelectorAll('${TABLE} tbody tr:not([hidden])'), (row) => row.cells[${column}].textContent.trim())`,
    );

  test("3,862 classes and 100,000 videos: opens within a second, has less than 3 MB, and is sorted and searched", async () => {
    const path = at("large.html");
    assert.ok(statSync(path).size < 3e6, `${statSync(path).size} bytes`);
    let fastestMs = Number.POSITIVE_INFINITY;
    // The other tests may take the processor at the same time.
    for (let attempt = 0; attempt < 3; attempt++) {
      const { page, openedMs } = await openFile(browser, path);
      fastestMs = Math.min(fastestMs, openedMs);
      await page.context().close();
    }
    assert.ok(fastestMs < 1000, `${fastestMs} ms`);
    const { page, requests, errors } = await openFile(browser, path);
    const heading = (name: string) => headingOf(page, name);
    assert.deepEqual(
      await cellsOf(page, 0),
      Array.from({ length: 100 }, (_, c) => String(c)),
    );
    // Before all rows are shown, each of which axe-core would check.
    assert.deepEqual(await findAccessibilityProblems(page), []);
    await page.locator("button.all").click();
    assert.equal(await page.locator("[role=status]").textContent(), "3,862 of 3,862 classes");
    // With the keyboard.
    await heading("AP").locator("button").focus();
    await page.keyboard.press("Enter");
    assert.equal(await heading("AP").getAttribute("aria-sort"), "descending");
    const aps = (await cellsOf(page, 2)).map(Number);
    assert.equal(aps.length, 3862);
    const known = aps.filter((ap) => !Number.isNaN(ap));
    assert.deepEqual(
      known,
      [...known].sort((a, b) => b - a),
    );
    assert.ok(aps.slice(known.length).every(Number.isNaN), "classes without videos come last");
    await page.keyboard.press("Enter");
    assert.equal(await heading("AP").getAttribute("aria-sort"), "ascending");
    assert.deepEqual((await cellsOf(page, 2)).slice(0, known.length).map(Number), [...known].reverse());
    await heading("Name").locator("button").click();
    assert.deepEqual([await heading("AP").getAttribute("aria-sort"), await heading("Name").getAttribute("aria-sort")], [null, "ascending"]);
    await page.getByLabel("Find a class").fill("NAME 386");
    assert.deepEqual(await cellsOf(page, 0), ["386", "1386", "2386", "3386", "3860", "3861"]);
    assert.equal(await page.locator("[role=status]").textContent(), "6 of 6 classes found");
    await page.getByLabel("Find a class").fill("");
    assert.equal((await cellsOf(page, 0)).length, 3862);
    assert.deepEqual({ requests, errors }, { requests: [], errors: [] });
    await page.context().close();
  });

  const audioset = process.env.NEXTVLAD_AUDIOSET;
  test("a real run on AudioSet", { skip: audioset === undefined && "NEXTVLAD_AUDIOSET is not set" }, async () => {
    const data = resolve(audioset as string);
    const [run, results] = [at("audioset"), at("audioset-results")];
    const [trained, evaluated] = ["train", "eval"].map((split) => join(data, `${split}*.tfrecord*`)) as [string, string];
    const config = join(repository, "configs/audioset-plain.yaml");
    const filelists = ["--set", `TRAIN.filelist=${trained}`, "--set", `VALID.filelist=${evaluated}`];
    const training = await spawnNextvlad(["train", "--config", config, ...filelists, "--epoch", "2", "--save-dir", run]);
    assert.equal(training.exitCode, 0, training.stderr);
    const flags = ["--filelist", evaluated, "--full-ranking", "--labels", join(data, "class_labels_indices.csv"), "--save-dir", results];
    const evaluation = await spawnNextvlad(["eval", "--weights", join(run, "best"), ...flags]);
    assert.equal(evaluation.exitCode, 0, evaluation.stderr);
    const path = await report("audioset.html", run, results);
    assert.ok(statSync(path).size < 3e6, `${statSync(path).size} bytes`);
    for (const viewport of VIEWPORTS) await checkInBothSchemes(path, viewport);
    const { page, errors } = await openFile(browser, path);
    await page.locator("button.all").click();
    assert.equal(await page.locator("[role=status]").textContent(), "527 of 527 classes");
    await headingOf(page, "AP").locator("button").click();
    const aps = (await cellsOf(page, 2)).map(Number).filter((ap) => !Number.isNaN(ap));
    assert.deepEqual(
      aps,
      [...aps].sort((a, b) => b - a),
    );
    await page.getByLabel("Find a class").fill("guitar");
    const names = await cellsOf(page, 1);
    assert.ok(names.length > 3 && names.every((name) => /guitar/i.test(name)), String(names));
    assert.deepEqual(errors, []);
    await page.context().close();
  });
});
