import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { describe, test } from "node:test";
import { findMutants, instrument, type Mutant } from "../../scripts/mutants/mutations.js";
import { PARTS, type Part } from "../../scripts/mutants/parts.js";
import { readAccepted, report } from "../../scripts/mutants/report.js";
import { runMutants, sample, type Verdict } from "../../scripts/mutants/run.js";

const SOURCE = `
export function ease(x: number, most = 1): number {
  if (isNaN(x)) throw new Error(\`no \${x + 1}\`);
  let sum = 0;
  for (let i = 0; i < 2; i++) sum += Math.min(x, most as number) * 0.5;
  log.info(x - 1);
  return sum;
}`;

const changes = (mutants: readonly Mutant[]): string[] => mutants.map(({ key }) => key.replace(/^f\.ts: /, "").replace(/ in: .*/, ""));

describe("mutants", () => {
  test("change operators, numbers, conditions, calls and statements; types, messages, logs and loops' ends stay", () => {
    assert.deepEqual(changes(findMutants(SOURCE, "f.ts")), [
      "1 -> 2",
      "isNaN(x) -> !(isNaN(x))",
      "0 -> 1",
      "0 -> 1",
      "i < 2 -> i <= 2",
      "2 -> 3",
      "sum += Math.min(x, most as number) * 0.5; -> (removed)",
      "sum += Math.min(x, most as number) * 0.5 -> sum -= Math.min(x, most as number) * 0.5",
      "Math.min(x, most as number) * 0.5 -> Math.min(x, most as number) / 0.5",
      "Math.min(x, most as number) -> Math.max(x, most as number)",
      "0.5 -> 1",
    ]);
    assert.deepEqual(changes(findMutants("x = (y as number) & z;", "f.ts")), ["(y as number) & z -> (y as number) | z"]);
    const kernels = findMutants("const d = subtract(multiply(a, b), c) as Tensor; matMul(a, b, { transposeA: true }); x = y;", "f.ts");
    assert.deepEqual(changes(kernels), [
      "subtract(multiply(a, b), c) -> multiply(a, b)",
      "subtract(multiply(a, b), c) -> subtract(c, multiply(a, b))",
      "multiply(a, b) -> a",
      "matMul(a, b, { transposeA: true }) -> matMul(b, a, { transposeA: true })",
      "true -> false",
    ]);
  });

  test("are all in one source, where each one can be switched on alone", () => {
    const source = "(x, most) => { let sum = 0; for (let i = 0; i < 2; i++) sum += Math.min(x, most) * 0.5; return sum; }";
    const mutants = findMutants(source, "f.ts");
    const text = instrument(source, mutants, 10);
    const ease = (active: number): number => new Function("$m", `return (${text})`)((number: number) => number === active)(3, 4);
    assert.equal(ease(-1), 3);
    const found = mutants.map(({ key }, i) => [key.replace(/^f\.ts: (.*?)( in: .*)?$/, "$1"), ease(10 + i)]);
    assert.deepEqual(found, [
      ["0 -> 1", 4],
      ["0 -> 1", 1.5],
      ["i < 2 -> i <= 2", 4.5],
      ["2 -> 3", 4.5],
      ["sum += Math.min(x, most) * 0.5; -> (removed)", 0],
      ["sum += Math.min(x, most) * 0.5 -> sum -= Math.min(x, most) * 0.5", -3],
      ["Math.min(x, most) * 0.5 -> Math.min(x, most) / 0.5", 12],
      ["Math.min(x, most) -> Math.max(x, most)", 4],
      ["0.5 -> 1", 6],
    ]);
  });

  test("of the schedule are killed by its tests, and uncovered without them", async (t) => {
    const directory = "dist/mutants-of-the-test";
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const schedule = PARTS.find(({ name }) => name === "schedule") as Part;
    // The tests of the schedule do not run this file.
    const parts = [
      { ...schedule, name: "unwatched", sources: ["base/interval"], tests: ["optim/schedule"] },
      { ...schedule, sources: ["optim/schedule"], tests: ["optim/schedule"] },
    ];
    const verdicts = await runMutants({ parts, directory, jobs: 2, choose: (mutants) => sample(mutants, 2), onVerdict: () => undefined });
    assert.deepEqual(
      verdicts.map(({ part, fate, by }) => [part, fate, by?.endsWith("optim/schedule.test.js") ?? null]),
      [
        ["unwatched", "uncovered", null],
        ["unwatched", "uncovered", null],
        ["schedule", "killed", true],
        ["schedule", "killed", true],
      ],
    );
    const { text, passed } = report(verdicts, new Map());
    assert.equal(passed, false);
    assert.match(text, /\| all \| 4 \| 2 \| 0 \| 0 \| 2 \| 50\.0 % \|/);
    assert.match(text, /src\/base\/interval\.ts:\d+ uncovered: .*: NO REASON GIVEN/);
  });

  test("pass where nine in ten are killed and every other has a reason", () => {
    const mutant = (key: string): Mutant => ({ file: "f.ts", line: 1, start: 0, end: 1, replacement: "x", key });
    const verdict = (i: number, fate: Verdict["fate"]): Verdict => ({ part: "p", mutant: mutant(`f.ts: ${i}`), fate, by: null });
    const verdicts = [verdict(0, "survived"), ...Array.from({ length: 9 }, (_, i) => verdict(i + 1, i === 0 ? "timeout" : "killed"))];
    const reasons = new Map([["f.ts: 0", "equivalent"]]);
    assert.equal(report(verdicts, reasons).passed, true);
    assert.equal(report(verdicts, new Map()).passed, false);
    assert.equal(report([...verdicts.slice(0, 9), verdict(10, "uncovered")], new Map([...reasons, ["f.ts: 10", "too"]])).passed, false);
  });

  test("name sources and tests that exist, and reasons for mutants that exist", () => {
    for (const { sources, tests } of PARTS) {
      for (const name of sources) assert.ok(existsSync(`src/${name}.ts`), name);
      for (const name of tests) assert.ok(existsSync(`test/${name}.test.ts`), name);
    }
    for (const [key, reason] of readAccepted()) {
      const file = key.slice(0, key.indexOf(": "));
      assert.ok(findMutantsOf(file).has(key), `${key}: the code has changed; remove it from scripts/mutants/accepted.json`);
      assert.notEqual(reason, "");
    }
  });
});

const keys = new Map<string, ReadonlySet<string>>();

function findMutantsOf(file: string): ReadonlySet<string> {
  const found = keys.get(file) ?? new Set(findMutants(readFileSync(file, "utf8"), file).map(({ key }) => key));
  keys.set(file, found);
  return found;
}
