import assert from "node:assert/strict";
import { test } from "node:test";
import { encodePartialState, type PartialState, parsePartialState, refuseOtherWork } from "../../src/results/partial-state.js";

const state: PartialState = {
  work: { "MODEL.topk": "20", "--weights": "weights with checksum 01234567" },
  computed_by: "TensorFlow 2.21.0 on the CPU",
  ...{ batches: 3, videos: 12, fraction: 0.3, complete: false },
  sums: Buffer.from(Float64Array.of(1, Number.NaN, Number.POSITIVE_INFINITY).buffer).toString("base64"),
  files: { "tally.bin": { bytes: 96, crc32c: 7 } },
};

test("a state comes back as it was; one that was changed, or is of another form, is refused", () => {
  const text = encodePartialState(state);
  assert.deepEqual(parsePartialState(text, "f"), state);
  const changed = text.replace('"videos": 12', '"videos": 13');
  assert.throws(() => parsePartialState(changed, "f"), {
    code: "BAD_RESULTS",
    message: /f: the checksum of .* \(expected \w{8}, found \w{8}\)/,
  });
  for (const half of ["", text.slice(0, 50)])
    assert.throws(() => parsePartialState(half, "f"), { code: "BAD_RESULTS", message: /no JSON object/ });
  const other = encodePartialState({ ...state, fraction: 2 });
  assert.throws(() => parsePartialState(other, "f"), { code: "BAD_RESULTS", message: /does not fit: fraction/ });
});

test("other work is refused with the key and both values, whichever of the two has it", () => {
  refuseOtherWork(state.work, { ...state.work }, "f");
  const policy = (onCorrupt: string) => ({ ...state.work, "TEST.on_corrupt": onCorrupt });
  const labels = { ...state.work, "--labels": "names with checksum 1" };
  const cases: readonly [Record<string, string>, Record<string, string>, RegExp][] = [
    [state.work, { ...state.work, "MODEL.topk": "5" }, /MODEL\.topk: .*\(expected 20, found 5\)/],
    [state.work, labels, /--labels: .*\(expected nothing, found names with checksum 1\)/],
    [labels, state.work, /--labels: .*\(expected names with checksum 1, found nothing\)/],
    [policy("skip-record"), policy("skip-shard"), /TEST\.on_corrupt: .*\(expected skip-record, found skip-shard\)/],
    [policy("skip-record"), policy("error"), /TEST\.on_corrupt: .*\(expected skip-record, found error\)/],
  ];
  refuseOtherWork(policy("error"), policy("skip-shard"), "f");
  for (const [then, now, message] of cases) assert.throws(() => refuseOtherWork(then, now, "f"), { code: "BAD_CONFIG", message });
});
