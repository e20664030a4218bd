import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRandom } from "../../src/base/random.js";
import { encodeDiagnostics } from "../../src/evaluation/diagnostics.js";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { MistakeList } from "../../src/evaluation/mistakes.js";

/** Text that would run a script, load a file or reorder the page if it were not escaped. */
export const HOSTILE = `</script><img src="https://example.com/x" onerror="document.title='broken'"><b>\u202e'"&\u001b[2J`;

/** Writes the log of a training run to a save-dir: `epochs` epochs of `steps` logged steps each. */
export function writeRunLog(saveDir: string, { epochs = 3, steps = 100, seed = 1 } = {}): void {
  const random = createRandom(seed, "digits");
  const noise = (): number => random.below(1000) / 1000 - 0.5;
  const lines: object[] = [];
  const add = (facts: object, level = 30): number =>
    lines.push({ level, time: new Date(1.75e12 + lines.length * 1e4).toISOString(), pid: 1, ...facts });
  add({ msg: "a log without facts" });
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (let i = 0; i < steps; i++) {
      const done = (epoch * steps + i) / (epochs * steps);
      const gap = 0.9 * (1 - Math.exp(-6 * done)) + 0.04 * noise();
      const metrics = { loss: 1 + 30 * Math.exp(-8 * done) * (1 + 0.3 * noise()), gap, perr: gap - 0.05, hit_at_one: gap + 0.03 };
      const pace = { videos_per_second: 300 + 20 * noise(), wait_share: 0.05 + 0.02 * noise() };
      add({ epoch, step: 10 * (epoch * steps + i), ...metrics, learning_rate: 1e-3 * 0.4 ** epoch, ...pace, msg: "[TRAIN]" });
    }
    const gap = 0.85 * (1 - Math.exp(-2 * (epoch + 1)));
    const metrics = { loss: 2 + 5 / (epoch + 1), gap, perr: gap - 0.04, hit_at_one: gap + 0.03, map: gap - 0.3 };
    add({ epoch, ...metrics, videos: 100, videos_without_labels: 0, msg: "[VALID]" });
  }
  add({ msg: `a warning ${HOSTILE}` }, 40);
  mkdirSync(saveDir, { recursive: true });
  writeFileSync(join(saveDir, "train.log.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}

/**
 * Writes the diagnostics of an evaluation to a save-dir, computed from random predictions: of each label, the probability is high in most videos, and in some that
 * of its neighbour. The first names are hostile, and so is the first ID of a mistake.
 */
export function writeEvaluation(saveDir: string, { videos = 2000, classes = 20, seed = 2, named = true } = {}): void {
  const random = createRandom(seed, "digits");
  const accumulator = new MetricsAccumulator(classes);
  const mistakes = new MistakeList(classes);
  const [row, ids] = [new Float32Array(classes), ["" as string]];
  // The probabilities of other classes: each video has another part of them.
  const others = Float32Array.from({ length: 3 * classes }, () => random.below(1000) / 40_000);
  for (let video = 0; video < videos; video++) {
    const labels = new Set<number>();
    // Lower classes are more frequent, as in YouTube-8M.
    const count = 1 + random.below(3);
    for (let i = 0; i < count; i++) labels.add(Math.floor(classes * (random.below(10_000) / 10_000) ** 3));
    const start = random.below(2 * classes);
    row.set(others.subarray(start, start + classes));
    for (const label of labels) {
      const confused = random.below(100) < 5 + (30 * label) / classes;
      row[confused ? (label + 1) % classes : label] = 0.3 + (0.7 * random.below(1000)) / 1000;
    }
    const list = [Int32Array.from([...labels].sort((a, b) => a - b))];
    ids[0] = video < 50 ? `${HOSTILE}${video}` : `video${video}`;
    accumulator.add(row, list, 5);
    mistakes.add(ids, row, list);
    mistakes.take();
  }
  const nameOf = named ? (c: number): string | null => (c === 0 ? HOSTILE : c === 1 ? null : `Class name ${c}`) : null;
  const text = encodeDiagnostics({ ...accumulator.analyze(), positives: accumulator.sums.positives, nameOf, mistakes });
  mkdirSync(saveDir, { recursive: true });
  writeFileSync(join(saveDir, "NEXTVLAD_eval_diagnostics.json"), text);
}
