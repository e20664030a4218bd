import { NextvladError } from "../base/errors.js";
import { joinErrors } from "../base/problem-list.js";

/** A problem in a config. */
export interface Problem {
  /** The file it was read from; undefined for a flag. */
  readonly file: string | undefined;
  /** `TRAIN.epoch`, or `--epoch` for a flag's value. */
  readonly key: string | undefined;
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
  readonly remedy?: string;
}

/** Returns one BAD_CONFIG error for all problems, at least one. */
export function problemsError(problems: readonly Problem[]): NextvladError {
  return joinErrors(problems.map(problemError), "BAD_CONFIG", (count) => `the config has ${count} problems`);
}

function problemError(problem: Problem): NextvladError {
  const given = Object.entries(problem).filter(([name, value]) => name !== "what" && value !== undefined);
  return new NextvladError("BAD_CONFIG", problem.what, Object.fromEntries(given));
}
