import assert from "node:assert/strict";
import { test } from "node:test";
import { stringifyWithChecksum } from "../../src/formats/checksum.js";
import {
  assertSameSettings,
  encodePartialState,
  type PartialState,
  parsePartialState,
  restoreSums,
} from "../../src/passes/partial-state.js";

const state: PartialState = {
  work: { "MODEL.topk": "20", "--weights": "weights with checksum 01234567" },
  shards: { modified_ms: [1.5, 0], ends_crc32c: ["01234567", null] },
  ...{ computed_by: "TensorFlow 2.21.0 on the CPU", level: "avx2", threads: 2 },
  ...{ batches: 3, videos: 12, fraction: 0.3, complete: false },
  sums: { videos: Float64Array.of(12), positives: Float64Array.of(1, Number.NaN, Number.POSITIVE_INFINITY) },
  files: { "tally.bin": { bytes: 96, crc32c: 7 } },
};

test("a state round-trips; a modified or invalid one is an error", () => {
  const text = encodePartialState(state);
  assert.deepEqual(parsePartialState(text, "f"), state);
  const changed = text.replace('"videos": 12', '"videos": 13');
  assert.throws(() => parsePartialState(changed, "f"), {
    code: "BAD_RESULTS",
    message: /f: the checksum of .* \(expected \w{8}, found \w{8}\)/,
  });
  for (const half of ["", text.slice(0, 50)])
    assert.throws(() => parsePartialState(half, "f"), { code: "BAD_RESULTS", message: /not a JSON object/ });
  const other = encodePartialState({ ...state, fraction: 2 });
  assert.throws(() => parsePartialState(other, "f"), { code: "BAD_RESULTS", message: /invalid state of .*: fraction/ });
});

test("restores sums by name; other names or lengths are an error and change nothing", () => {
  const sums = () => ({ positives: new Float64Array(3), videos: new Float64Array(1) });
  const restored = sums();
  restoreSums(restored, state.sums, "f");
  assert.deepEqual(restored, { positives: Float64Array.of(1, Number.NaN, Number.POSITIVE_INFINITY), videos: Float64Array.of(12) });
  const cases: readonly [Record<string, Float64Array>, RegExp][] = [
    [{ ...sums(), perr: new Float64Array(1) }, /expected perr, positives \(3 values\), videos, found positives \(3 values\), videos\)/],
    [{ videos: new Float64Array(1) }, /expected videos, found positives \(3 values\), videos\)/],
    [{ ...sums(), positives: new Float64Array(4) }, /expected positives \(4 values\), videos, found positives \(3 values\), videos\)/],
    [{}, /expected none, found/],
  ];
  for (const [other, message] of cases) {
    assert.throws(() => restoreSums(other, state.sums, "f"), { code: "BAD_RESULTS", message });
    assert.ok(Object.values(other).every((values) => values.every((value) => value === 0)));
  }
});

test("a state of version 1, with its sums in one array, 2, without the shards' contents, or 3, without level and threads, is upgraded", () => {
  const { level: __, threads: ___, ...third } = state;
  const { shards: _, sums, ...rest } = third;
  const base64 = (values: readonly number[]): string => Buffer.from(Float64Array.from(values).buffer).toString("base64");
  const upgraded = (version: number, old: unknown) =>
    parsePartialState(stringifyWithChecksum({ format_version: version, ...rest, sums: old }), "f");
  const { videos, positives } = sums;
  const encoded = { videos: base64([...(videos ?? [])]), positives: base64([...(positives ?? [])]) };
  assert.deepEqual(upgraded(2, encoded), { ...rest, shards: null, sums });
  const before = encodePartialState(third).replace('"format_version": 4', '"format_version": 3');
  const { format_version, crc32c, ...fields } = JSON.parse(before) as Record<string, unknown>;
  assert.deepEqual(parsePartialState(stringifyWithChecksum({ format_version, ...fields }), "f"), third);
  const named = { videos: [12], hit_at_one: [3], perr: [2.5], loss: [7], videos_without_labels: [Number.NaN], positives: [4, 5] };
  const expected = Object.fromEntries(Object.entries(named).map(([name, values]) => [name, Float64Array.from(values)]));
  assert.deepEqual(upgraded(1, base64([12, 3, 2.5, 7, 4, 5])), { ...rest, shards: null, sums: expected });
  assert.deepEqual(upgraded(1, ""), { ...rest, shards: null, sums: {} });
});

test("an unknown format version is an error that lists the supported ones", () => {
  for (const version of ["0", "5", "null"]) {
    const text = encodePartialState(state).replace('"format_version": 4', `"format_version": ${version}`);
    const message = new RegExp(
      `f: unknown format version .*\\(expected 1 to 4, found ${version}\\)\\. Resume with the version of nextvlad that`,
    );
    assert.throws(() => parsePartialState(text, "f"), { code: "BAD_RESULTS", message });
  }
});

test("different settings are an error with the key and both values", () => {
  assertSameSettings(state.work, { ...state.work }, "f");
  const policy = (onCorrupt: string) => ({ ...state.work, "TEST.on_corrupt": onCorrupt });
  const labels = { ...state.work, "--labels": "names with checksum 1" };
  const cases: readonly [Record<string, string>, Record<string, string>, RegExp][] = [
    [state.work, { ...state.work, "MODEL.topk": "5" }, /MODEL\.topk: .*\(expected 20, found 5\)/],
    [state.work, labels, /--labels: .*\(expected nothing, found names with checksum 1\)/],
    [labels, state.work, /--labels: .*\(expected names with checksum 1, found nothing\)/],
    [policy("skip-record"), policy("skip-shard"), /TEST\.on_corrupt: .*\(expected skip-record, found skip-shard\)/],
    [policy("skip-record"), policy("error"), /TEST\.on_corrupt: .*\(expected skip-record, found error\)/],
  ];
  assertSameSettings(policy("error"), policy("skip-shard"), "f");
  for (const [then, now, message] of cases) assert.throws(() => assertSameSettings(then, now, "f"), { code: "BAD_CONFIG", message });
});
