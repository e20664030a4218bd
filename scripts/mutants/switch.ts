import { appendFileSync } from "node:fs";

// Copied beside the instrumented modules. The environment reaches worker threads and child processes too.
const active = Number(process.env.NEXTVLAD_MUTANT ?? "-1");
const coverageFile = process.env.NEXTVLAD_MUTANT_COVERAGE;
const seen = new Set<number>();

/** Whether a mutant is the active one. Where coverage is asked for, none is, and the mutants that are reached are listed in the file. */
export const isActive: (mutant: number) => boolean =
  coverageFile === undefined
    ? (mutant) => mutant === active
    : (mutant) => {
        if (!seen.has(mutant)) appendFileSync(coverageFile, `${mutant}\n`);
        seen.add(mutant);
        return false;
      };
