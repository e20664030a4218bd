import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { NextvladError } from "../../src/base/errors.js";
import { runMain } from "../fuzz/arguments.js";
import { PARTS } from "./parts.js";
import { readAccepted, report } from "./report.js";
import { runMutants, sample } from "./run.js";

const DIRECTORY = "mutants";

// Mutation testing: npm run mutants -- [PART ...] [--all] [--match TEXT] [--jobs 2]. Exits with 1 if too many mutants survive, or any without a reason.
await runMain(async () => {
  const options = { all: { type: "boolean", default: false }, match: { type: "string" }, jobs: { type: "string", default: "2" } } as const;
  const { values, positionals } = parseArgs({ args: process.argv.slice(2), allowPositionals: true, options });
  const { all, match, jobs } = values;
  const parts = positionals.length === 0 ? PARTS : positionals.map(findPart);
  mkdirSync(DIRECTORY, { recursive: true });
  let done = 0;
  const verdicts = await runMutants({
    parts,
    directory: DIRECTORY,
    jobs: Number(jobs),
    choose: (mutants, part) => {
      if (match !== undefined) return mutants.filter(({ key }) => key.includes(match));
      return all ? mutants : sample(mutants, part.sample);
    },
    onVerdict: ({ fate, by, mutant }) =>
      process.stderr.write(`${++done} ${fate} ${mutant.line} ${mutant.key}${by === null ? "" : ` (${by})`}\n`),
  });
  const { text, passed } = report(verdicts, readAccepted());
  writeFileSync(join(DIRECTORY, "report.md"), text);
  writeFileSync(join(DIRECTORY, "report.json"), `${JSON.stringify(verdicts, null, 1)}\n`);
  process.stdout.write(text);
  return passed ? 0 : 1;
});

function findPart(name: string) {
  const found = PARTS.find((part) => part.name === name);
  if (found !== undefined) return found;
  throw new NextvladError("BAD_USAGE", "unknown part", { expected: PARTS.map((part) => part.name).join(", "), found: name });
}
