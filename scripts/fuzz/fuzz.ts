import { readArguments, runMain } from "./arguments.js";
import { instrument } from "./instrumentation.js";
import { report } from "./report.js";
import { type Outcome, watch } from "./watch.js";

// Coverage-guided fuzzing of one parser after the other: npm run fuzz -- [PARSER ...] [--seconds N] [--seed N]. Exits with 1 if there are findings.
await runMain(async () => {
  const { parsers, seconds, seed } = readArguments(process.argv.slice(2), { seconds: 60, seed: Date.now() % 2 ** 29 });
  const script = instrument();
  const outcomes: Outcome[] = [];
  for (const parser of parsers) {
    process.stderr.write(`${parser}: ${seconds} s, seed ${seed}\n`);
    outcomes.push(await watch(script, { parser, seed, from: 0, work: { kind: "guided", seconds } }));
  }
  process.stdout.write(report(outcomes));
  return outcomes.some(({ findings }) => findings.length > 0) ? 1 : 0;
});
