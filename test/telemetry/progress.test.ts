import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createScreen, fitLine, formatDuration, formatFacts } from "../../src/telemetry/progress.js";
import { Capture, screenOf } from "../helpers/terminal.js";

const state = { fraction: 0.5, videosPerSecond: 812.4, secondsLeft: 3849, loss: 4.512, gap: 0.87094, waitShare: 0.123 };

test("formats the facts beside the bar: speed, time left, loss, GAP, and the share of waiting", () => {
  assert.deepEqual(formatFacts(state), ["812 videos/s", "1:04:09 left", "loss 4.51", "GAP 0.871", "12% waiting for data"]);
  assert.deepEqual(formatFacts({ fraction: 0, videosPerSecond: 1.23, secondsLeft: 5, waitShare: 1, epoch: 2 }), [
    "epoch 2",
    "1.2 videos/s",
    "0:05 left",
    "100% waiting for data",
  ]);
});

test("the line fits any width, with room for ^C: the bar shrinks, then the last facts are dropped, then the bar, then the end of the title", () => {
  const facts = formatFacts({ ...state, epoch: 3 });
  const line = (columns: number): string => fitLine("train", 0.5, facts, columns);
  assert.equal(
    line(140),
    `train ${"█".repeat(12)}${"░".repeat(12)} 50% | epoch 3 | 812 videos/s | 1:04:09 left | loss 4.51 | GAP 0.871 | 12% waiting for data`,
  );
  assert.equal(line(100), `train ${"█".repeat(12)}${"░".repeat(12)} 50% | epoch 3 | 812 videos/s | 1:04:09 left | loss 4.51 | GAP 0.871`);
  assert.equal(line(80), "train ████████░░░░░░░░ 50% | epoch 3 | 812 videos/s | 1:04:09 left | loss 4.51");
  assert.equal(line(40), "train █████████░░░░░░░░░ 50% | epoch 3");
  assert.deepEqual([line(20), line(14), line(8), line(2)], ["train ████░░░░ 50%", "train 50%", "train ", ""]);
  for (let columns = 0; columns < 160; columns++) assert.ok(line(columns).length <= Math.max(0, columns - 2));
  assert.deepEqual([fitLine("t", 0, [], 13), fitLine("t", 1, [], 15), fitLine("t", 1, [], 14)], ["t ░░░░░░ 0%", "t ██████ 100%", "t 100%"]);
});

test("formats durations", () => {
  assert.deepEqual([0, 59.6, 3599, 3600, 90_061].map(formatDuration), ["0:00", "1:00", "59:59", "1:00:00", "25:01:01"]);
  assert.deepEqual([Number.POSITIVE_INFINITY, Number.NaN, -1].map(formatDuration), ["-", "-", "-"]);
});

describe("on a terminal", { concurrency: false }, () => {
  const asOnATerminal = (work: (screen: ReturnType<typeof createScreen>, capture: Capture) => void, columns = 120): Capture => {
    const capture = new Capture(true, columns);
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
      screen.start("epoch 0");
      screen.update(state);
      screen.print("");
      const [line = ""] = screenOf(capture.text);
      assert.match(line, /^epoch 0 █{12}░{12} 50% \| 812 videos\/s \| 1:04:09 left/);
      screen.end();
    });
  });

  test("lines are printed above the bar, which disappears at its end", () => {
    const { text } = asOnATerminal((screen, capture) => {
      screen.print("before\n");
      screen.start("epoch 0");
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

  test("the bar fits the terminal's width, and disappears after a Ctrl-C that the terminal echoes", () => {
    const { text } = asOnATerminal((screen, capture) => {
      screen.start("train");
      screen.update({ ...state, epoch: 3 });
      screen.print("");
      const line = screenOf(capture.text)[0] ?? "";
      assert.match(line, /^train █+░+ 50% \| epoch 3 \| 812 videos\/s \| 1:04:09 left$/);
      // At the cursor, which stands behind the bar.
      capture.text += "^C";
      assert.ok(screenOf(capture.text)[0]?.endsWith("left^C") && line.length + 2 <= 60);
      screen.print("SIGINT\n");
      screen.end();
    }, 60);
    assert.deepEqual(screenOf(text), ["SIGINT", ""]);
  });

  test("a new bar replaces the old one; updates without a bar print nothing", () => {
    const { text } = asOnATerminal((screen) => {
      screen.start("epoch 0");
      screen.start("epoch 1");
      screen.end();
      screen.end();
      screen.update(state);
    });
    assert.deepEqual(screenOf(text), [""]);
  });
});

test("a pipe gets lines and no bar", () => {
  const capture = new Capture(false);
  const screen = createScreen(capture.stream);
  screen.start("epoch 0");
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
