import assert from "node:assert/strict";
import { test } from "node:test";
import { DIAGNOSTICS_HEAD, encodeDiagnostics, parseDiagnostics } from "../../src/evaluation/diagnostics.js";
import { type Metrics, MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { MistakeList } from "../../src/evaluation/mistakes.js";

const CLASSES = 3;

function encode(isComplete = true, more: Partial<Metrics> = {}): string {
  const accumulator = new MetricsAccumulator(CLASSES);
  const mistakes = new MistakeList(CLASSES);
  mistakes.isComplete = isComplete;
  const predictions = Float32Array.of(0.75, 0.5, 0.25, 0.125, 0.5, 0.25);
  const labels = [Int32Array.of(1, 2), Int32Array.of(1)];
  accumulator.add(predictions, labels);
  mistakes.add(["a", "b"], predictions, labels);
  const nameOf = (c: number): string | null => ["zero", "one"][c] ?? null;
  const { metrics, curves } = accumulator.analyze();
  return encodeDiagnostics({ metrics: { ...metrics, ...more }, curves, positives: accumulator.sums.positives, nameOf, mistakes });
}

test("diagnostics are read as written", () => {
  const text = encode();
  assert.ok(text.startsWith(DIAGNOSTICS_HEAD));
  const { metrics, classes, confused_pairs, mistakes } = parseDiagnostics(text, "file");
  assert.deepEqual({ hit: metrics.hit_at_one, loss: metrics.loss, videos: metrics.videos }, { hit: 0.5, loss: null, videos: 2 });
  assert.deepEqual(classes.names, ["zero", "one", null]);
  assert.deepEqual(classes.videos, [0, 2, 1]);
  assert.deepEqual(confused_pairs, [
    { label: 1, predicted: 0, videos: 1 },
    { label: 2, predicted: 0, videos: 1 },
  ]);
  assert.deepEqual(mistakes, [{ id: "a", predicted: 0, probability: 0.75, labels: [1, 2], label_probabilities: [0.5, 0.25] }]);
});

test("the metrics over the full ranking and of segments are among them, if there are any", () => {
  assert.deepEqual(Object.keys(parseDiagnostics(encode(), "file").metrics).length, 7);
  const [aps, aucs] = [Float64Array.of(0.5, 0.25, 1), Float64Array.of(0.5, Number.NaN, 0.75)];
  const text = encode(true, {
    full_ranking: { map: 0.5, mauc: 0.75, d_prime: Number.NaN, classes: 3, aps, aucs },
    segments: { map_at_k: 0.25, k: 100_000, classes: 2 },
  });
  const { full_ranking, segments } = parseDiagnostics(text, "file").metrics;
  assert.deepEqual({ full_ranking, segments }, { full_ranking: { map: 0.5, mauc: 0.75, d_prime: null }, segments: { map_at_k: 0.25 } });
});

test("without the mistakes of all videos, there are none", () => {
  const { confused_pairs, mistakes } = parseDiagnostics(encode(false), "file");
  assert.deepEqual([confused_pairs, mistakes], [null, null]);
});

test("a file that is not of this format is an error", () => {
  const change = (from: string | RegExp, to: string) => {
    const text = encode().replace(from, to);
    assert.notEqual(text, encode());
    return text;
  };
  const cases: readonly [string, RegExp][] = [
    ["{", /^file: the diagnostics of an evaluation are not JSON \(found .*\)\. Run eval again\.$/],
    ["null", /unknown format version of the diagnostics \(expected 1, found undefined\)/],
    [
      change('"diagnostics_version": 1', '"diagnostics_version": 2'),
      /\(expected 1, found 2\)\. Use the version of nextvlad that wrote them/,
    ],
    [change('"gap":', '"gaps":'), /invalid diagnostics of an evaluation \(found metrics\.gap: /],
    [change('"probability": 0.75', '"probability": 1.5'), /found mistakes\.0\.probability: /],
    [change(/"names": \[[^\]]*\]/, '"names": ["one"]'), /found different numbers of classes/],
    [change(/"threshold": \[[^\]]*\]/, '"threshold": []'), /found different numbers of points/],
    [change(/"label_probabilities": \[[^\]]*\]/, '"label_probabilities": []'), /found a label without a probability/],
    [change('"predicted": 0', '"predicted": 3'), /found a class that the model does not have/],
  ];
  for (const [text, message] of cases) assert.throws(() => parseDiagnostics(text, "file"), { code: "BAD_FORMAT", message });
});
