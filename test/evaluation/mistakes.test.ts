import assert from "node:assert/strict";
import { test } from "node:test";
import { createRandom } from "../../src/base/random.js";
import { MAX_MISTAKES, MAX_PAIRS, MistakeList } from "../../src/evaluation/mistakes.js";

const [VIDEOS, CLASSES, BATCH] = [600, 30, 7];
const random = createRandom(3, "digits");
const ids = Array.from({ length: VIDEOS }, (_, video) => (video % 50 === 0 ? `é\n"${video}\udcff` : `video${video}`));
/** Multiples of 1/64, so that many are equal. */
const all = Float32Array.from({ length: VIDEOS * CLASSES }, () => random.below(65) / 64);
const labels = ids.map(() => Int32Array.from(new Set(Array.from({ length: random.below(4) }, () => random.below(CLASSES)))));

function addVideos(list: MistakeList, from: number, to: number): void {
  for (let at = from; at < to; at += BATCH) {
    const end = Math.min(to, at + BATCH);
    list.add(ids.slice(at, end), all.slice(at * CLASSES, end * CLASSES), labels.slice(at, end));
  }
}

/** All mistakes by their definition. */
const mistakes = ids.flatMap((id, video) => {
  const row = Array.from(all.subarray(video * CLASSES, (video + 1) * CLASSES));
  const predicted = row.indexOf(Math.max(...row));
  const own = Array.from(labels[video] as Int32Array);
  if (own.length === 0 || own.includes(predicted)) return [];
  const shown = id.replace("\udcff", "\\xFF");
  return [{ id: shown, predicted, probability: row[predicted], labels: own, label_probabilities: own.map((label) => row[label]) }];
});

test("the most confident mistakes are those with the highest probability; equal ones in the order of the videos", () => {
  const list = new MistakeList(CLASSES);
  addVideos(list, 0, VIDEOS);
  const expected = mistakes.toSorted((a, b) => (b.probability as number) - (a.probability as number)).slice(0, MAX_MISTAKES);
  assert.equal(expected.length, MAX_MISTAKES);
  assert.deepEqual(list.mostConfident(), expected);
});

test("pairs are counted for each label of a mistaken video", () => {
  const list = new MistakeList(CLASSES);
  addVideos(list, 0, VIDEOS);
  const counts = new Map<string, { label: number; predicted: number; videos: number }>();
  for (const { labels: own, predicted } of mistakes) {
    for (const label of own) {
      const key = `${label} ${predicted}`;
      counts.set(key, { label, predicted, videos: (counts.get(key)?.videos ?? 0) + 1 });
    }
  }
  const expected = [...counts.values()].sort((a, b) => b.videos - a.videos || a.label - b.label || a.predicted - b.predicted);
  assert.ok(expected.length > MAX_PAIRS);
  assert.deepEqual(list.mostConfused(), expected.slice(0, MAX_PAIRS));
});

test("the state is the same after saving and restoring at any point, in pieces of any length", () => {
  const whole = new MistakeList(CLASSES);
  addVideos(whole, 0, VIDEOS);
  const lines = whole.take();
  assert.equal(lines.split("\n").length, mistakes.length + 1);
  assert.deepEqual([whole.length, whole.take()], [0, ""]);
  for (const stop of [0, 1, 7, 350, VIDEOS]) {
    const first = new MistakeList(CLASSES);
    addVideos(first, 0, stop);
    const saved = Buffer.from(first.take());
    const second = new MistakeList(CLASSES);
    for (let at = 0; at < saved.length; at += 113) second.put(saved.subarray(at, at + 113));
    addVideos(second, stop, VIDEOS);
    assert.equal(saved.toString("utf8") + second.take(), lines);
    assert.deepEqual(second.mostConfident(), whole.mostConfident());
    assert.deepEqual(second.mostConfused(), whole.mostConfused());
  }
});

test("memory is bounded: of many mistakes, only the pairs and the most confident remain", () => {
  const list = new MistakeList(2);
  for (let video = 0; video < 1000; video++) {
    list.add([`v${video}`], Float32Array.of(0.5, 0.25), [Int32Array.of(1)]);
    list.take();
  }
  assert.deepEqual(list.mostConfused(), [{ label: 1, predicted: 0, videos: 1000 }]);
  assert.deepEqual(
    list.mostConfident().map(({ id }) => id),
    Array.from({ length: MAX_MISTAKES }, (_, i) => `v${i}`),
  );
});
