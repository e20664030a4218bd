import { fileURLToPath } from "node:url";
import { readArguments, runMain } from "./arguments.js";
import { report } from "./report.js";
import { type Outcome, watch } from "./watch.js";

// Gives parsers mutations of the corpus, as many in all as asked for, the same each time: node dist/scripts/fuzz/mutate.js [PARSER ...] [--inputs N] [--seed N]
// [--from NUMBER], the last to begin at an input that a report names. Exits with 1 where it found something.
await runMain(async () => {
  const { parsers, inputs, seed, from } = readArguments(process.argv.slice(2), { inputs: 1_000_000, seed: 1, from: 0 });
  const script = fileURLToPath(new URL("./child.js", import.meta.url));
  const outcomes: Outcome[] = [];
  const each = Math.ceil(inputs / parsers.length);
  for (const parser of parsers) {
    process.stderr.write(`${parser}: ${each} inputs, seed ${seed}\n`);
    outcomes.push(await watch(script, { parser, seed, from, work: { kind: "random", to: from + each } }));
  }
  process.stdout.write(report(outcomes));
  return outcomes.some(({ findings }) => findings.length > 0) ? 1 : 0;
});
