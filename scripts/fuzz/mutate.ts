import { fileURLToPath } from "node:url";
import { readArguments, runMain } from "./arguments.js";
import { report } from "./report.js";
import { type Outcome, watch } from "./watch.js";

// Runs parsers on N deterministic mutations of the corpus in all: node dist/scripts/fuzz/mutate.js [PARSER ...] [--inputs N] [--seed N] [--from NUMBER].
// --from starts at an input number from a report. Exits with 1 if there are findings.
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
