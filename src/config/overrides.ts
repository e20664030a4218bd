import { findKey, sectionNames, suggestKey, suggestSection } from "./keys.js";
import type { Problem } from "./problems.js";
import { parseYaml } from "./yaml.js";

/** A config value set by a flag. */
export interface Override {
  /** `TRAIN.batch_size` */
  readonly key: string;
  /** As typed: text is parsed according to the key's type. */
  readonly value: unknown;
  /** `--batch-size`, for messages. */
  readonly flag: string;
}

/** Overrides of a config file's values: PaddleVideo's flags, and `--set SECTION.key=value`, which overrides the flags. */
export interface Overrides {
  readonly flags?: readonly Override[];
  readonly settings?: readonly string[];
}

const FORM = /^([^.=\s]+)\.([^=\s]+)=(.*)$/s;
const FLOW = /^\s*["'[{]/;

/**
 * Parses `--set SECTION.key=value`. A value that begins with a quote, bracket or brace is YAML; any other is plain text, so that `*.tfrecord` needs no quotes.
 * If the form, the section, the key or the YAML is invalid, adds to `problems` and returns an empty array.
 */
export function parseSetting(text: string, problems: Problem[]): Override[] {
  const reject = (key: string, what: string, remedy: string): Override[] => {
    problems.push({ file: undefined, key, what, remedy });
    return [];
  };
  const parts = FORM.exec(text);
  if (parts === null) return reject(`--set ${text}`, "not of the form SECTION.key=value", "write it like --set TRAIN.batch_size=80");
  const [, section = "", name = "", written = ""] = parts;
  const key = `${section}.${name}`;
  const flag = `--set ${key}`;
  if (!sectionNames.some((known) => known === section)) return reject(flag, "there is no such section", suggestSection(section));
  if (findKey(section, name) === undefined) return reject(flag, "there is no such key", suggestKey(section, name));
  if (!FLOW.test(written)) return [{ key, value: written, flag }];
  const outcome = parseYaml(written);
  if ("value" in outcome) return [{ key, value: outcome.value, flag }];
  return reject(flag, `the value: ${outcome.problem}`, outcome.remedy ?? "check its quotes and brackets");
}
