import { appendFileSync } from "node:fs";

// This file is copied next to the instrumented modules. Environment variables also reach worker threads and child processes.
const active = Number(process.env.NEXTVLAD_MUTANT ?? "-1");
const coverageFile = process.env.NEXTVLAD_MUTANT_COVERAGE;
const seen = new Set<number>();

/** Returns whether a mutant is active. With a coverage file, no mutant is active, and the numbers of reached mutants are appended to the file. */
export const isActive: (mutant: number) => boolean =
  coverageFile === undefined
    ? (mutant) => mutant === active
    : (mutant) => {
        if (!seen.has(mutant)) appendFileSync(coverageFile, `${mutant}\n`);
        seen.add(mutant);
        return false;
      };
