import { NextvladError } from "../base/errors.js";

/** Something wrong in a config. */
export interface Problem {
  /** The file it was read from; undefined for a flag. */
  readonly file: string | undefined;
  /** `TRAIN.epoch`, or `--epoch` for what a flag says. */
  readonly key: string | undefined;
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
  readonly remedy?: string;
}

/** One BAD_CONFIG error for all problems, so that they can be mended in one go. */
export function problemsError(problems: readonly Problem[]): NextvladError {
  const errors = problems.map(problemError);
  const [first] = errors;
  if (first !== undefined && errors.length === 1) return first;
  const list = errors.map((error, i) => `(${i + 1}) ${error.message}`).join(" ");
  return new NextvladError("BAD_CONFIG", `the config has ${errors.length} problems: ${list.replace(/\.$/, "")}`);
}

function problemError(problem: Problem): NextvladError {
  const given = Object.entries(problem).filter(([name, value]) => name !== "what" && value !== undefined);
  return new NextvladError("BAD_CONFIG", problem.what, Object.fromEntries(given));
}
