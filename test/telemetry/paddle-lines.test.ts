import assert from "node:assert/strict";
import { test } from "node:test";
import { formatEvalLine, formatTrainLine } from "../../src/telemetry/paddle-lines.js";

test("a training step's line is PaddleVideo's", () => {
  assert.equal(
    formatTrainLine({ epoch: 0, step: 10, loss: 12.345678, hitAtOne: 0.123, perr: 0.12, gap: 0.1249 }),
    "[TRAIN] Epoch 0, iter 10 , loss = 12.345678, Hit@1 = 0.12, PERR = 0.12, GAP = 0.12",
  );
});

test("an evaluation's line is PaddleVideo's, with its tabs", () => {
  assert.equal(
    formatEvalLine({ hitAtOne: 0.896, perr: 0.81321, loss: 4.5, gap: 0.87094 }),
    "[EVAL] eval finished. \tavg_hit_at_one: 0.8960,\tavg_perr: 0.8132,\tavg_loss :4.5000,\tgap:0.8709",
  );
});
