import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createScreen, formatDuration, formatFacts } from "../../src/telemetry/progress.js";
import { Capture, screenOf } from "./terminal.js";

const state = { fraction: 0.5, videosPerSecond: 812.4, secondsLeft: 3849, loss: 4.512, gap: 0.87094, waitShare: 0.123 };

test("the words beside the bar: speed, time left, loss, GAP, and the share of waiting", () => {
  assert.equal(formatFacts(state), "812 videos/s | 1:04:09 left | loss 4.51 | GAP 0.871 | 12% waiting for data");
  assert.equal(
    formatFacts({ fraction: 0, videosPerSecond: 1.23, secondsLeft: 5, waitShare: 1 }),
    "1.2 videos/s | 0:05 left | 100% waiting for data",
  );
});

test("durations", () => {
  assert.deepEqual([0, 59.6, 3599, 3600, 90_061].map(formatDuration), ["0:00", "1:00", "59:59", "1:00:00", "25:01:01"]);
  assert.deepEqual([Number.POSITIVE_INFINITY, Number.NaN, -1].map(formatDuration), ["-", "-", "-"]);
});

describe("on a terminal", { concurrency: false }, () => {
  const asOnATerminal = (work: (screen: ReturnType<typeof createScreen>, capture: Capture) => void): Capture => {
    const capture = new Capture(true);
    const { CI, TERM } = process.env;
    Object.assign(process.env, { CI: "", TERM: "xterm" });
    const screen = createScreen(capture.stream);
    try {
      work(screen, capture);
    } finally {
      screen.end();
      restore({ CI, TERM });
    }
    return capture;
  };

  test("the bar shows title, percentage and facts", () => {
    asOnATerminal((screen, capture) => {
      screen.begin("epoch 0");
      screen.update(state);
      screen.print("");
      const [line = ""] = screenOf(capture.text);
      assert.match(line, /^epoch 0 █{12}░{12} 50% \| 812 videos\/s \| 1:04:09 left/);
      screen.end();
    });
  });

  test("lines printed meanwhile stay whole, the bar below them; at its end it is gone", () => {
    const { text } = asOnATerminal((screen, capture) => {
      screen.print("before\n");
      screen.begin("epoch 0");
      screen.print("one\n");
      screen.update(state);
      screen.print("two\nthree\n");
      const shown = screenOf(capture.text);
      assert.deepEqual(shown.slice(0, 4), ["before", "one", "two", "three"]);
      assert.match(shown[4] ?? "", /^epoch 0 █/);
      screen.end();
      screen.print("after\n");
    });
    assert.deepEqual(screenOf(text), ["before", "one", "two", "three", "after"]);
  });

  test("a bar wider than the terminal is cut, so that it stays one line", () => {
    const { text } = asOnATerminal((screen) => {
      screen.begin("t".repeat(200));
    });
    assert.ok(screenOf(text).every((line) => line.length <= 120));
    assert.equal(screenOf(text.slice(0, text.lastIndexOf("t") + 1))[0], "t".repeat(120));
  });

  test("a bar begun anew takes the old one's place; updates without a bar show nothing", () => {
    const { text } = asOnATerminal((screen) => {
      screen.begin("epoch 0");
      screen.begin("epoch 1");
      screen.end();
      screen.end();
      screen.update(state);
    });
    assert.deepEqual(screenOf(text), [""]);
  });
});

test("in a pipe there are lines, and no bar", () => {
  const capture = new Capture(false);
  const screen = createScreen(capture.stream);
  screen.begin("epoch 0");
  screen.update(state);
  screen.print("line\n");
  screen.end();
  assert.equal(capture.text, "line\n");
});

function restore(values: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}
