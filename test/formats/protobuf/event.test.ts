import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  encodeEvent,
  fileVersion,
  histogramValue,
  scalarValue,
  sessionStart,
  summary,
  textValue,
} from "../../../src/formats/protobuf/event.js";

/** Events in hexadecimal, written by TensorBoard 2.21 (scripts/golden/events.py). */
const GOLDEN = new URL("../../../../test/golden/formats/events.json", import.meta.url);

test("events have the bytes that TensorBoard writes", () => {
  const histogram = {
    ...{ min: -1.5, max: 2.5, count: 4, sum: 3.25, sumOfSquares: 9.5 },
    limits: Float64Array.of(0.5, 2.5),
    counts: Float64Array.of(1, 3),
  };
  const contents = {
    version: fileVersion(),
    start: sessionStart(),
    scalars: summary([scalarValue("train/loss", 0.1), scalarValue("train/gap", -2e30)]),
    histogram: summary([histogramValue("parameters/w", histogram)]),
    text: summary([textValue("config", "é: 1\n")]),
  };
  const encode = (content: (typeof contents)["text"]): string =>
    Buffer.from(encodeEvent({ seconds: 1700000000.25, step: 123456789012 }, content)).toString("hex");
  const encoded = Object.fromEntries(Object.entries(contents).map(([name, content]) => [name, encode(content)]));
  assert.deepEqual(encoded, JSON.parse(readFileSync(GOLDEN, "utf8")));
});
