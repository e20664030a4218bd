import type { z } from "zod";
import { showValue } from "../base/shown-value.js";
import { readYaml } from "./file.js";
import { findKey, NEAREST, sectionNames, suggestKey, suggestSection } from "./keys.js";
import { type Overrides, parseSetting } from "./overrides.js";
import { type Problem, problemsError } from "./problems.js";
import { type Config, configSchema, isMapping } from "./schema.js";

const UNKNOWN_KEY = "there is no such key";

/** Reads, validates and completes a config file (see `buildConfig`). Throws FILE_MISSING, FILE_UNREADABLE, BAD_CONFIG. */
export async function loadConfig(file: string, overrides: Overrides = {}): Promise<Config> {
  return buildConfig(await readYaml(file), file, overrides);
}

/**
 * Validates a config file's value and completes it. Precedence, lowest first: defaults, file, flags, `--set`. `file` is named in messages.
 * Throws one BAD_CONFIG that lists all problems; an unknown key is listed with the closest known key.
 */
export function buildConfig(value: unknown, file: string, overrides: Overrides = {}): Config {
  if (!isMapping(value) || Object.keys(value).length === 0) {
    const expected = `a mapping with the sections ${sectionNames.join(", ")}`;
    const found = value === null || isMapping(value) ? "nothing" : showValue(value);
    throw problemsError([{ file, key: undefined, what: "this is no config", expected, found }]);
  }
  const problems: Problem[] = [];
  const flagOf = new Map<string, string>();
  const merged = new Map(Object.entries(value).map(([name, section]) => [name, isMapping(section) ? { ...section } : section]));
  const settings = (overrides.settings ?? []).flatMap((text) => parseSetting(text, problems));
  for (const { key, value: given, flag } of [...(overrides.flags ?? []), ...settings]) {
    const [sectionName = "", name = ""] = key.split(".");
    const section = merged.get(sectionName) ?? {};
    if (!isMapping(section)) continue;
    merged.set(sectionName, { ...section, [name]: given });
    flagOf.set(key, flag);
  }
  const result = configSchema.safeParse(Object.fromEntries(merged));
  if (!result.success) problems.push(...result.error.issues.flatMap((issue) => describeIssue(issue, merged, file, flagOf)));
  if (problems.length > 0 || !result.success) throw problemsError(withoutRepeats(mergeSuggestions(problems)));
  return deepFreeze(result.data);
}

function describeIssue(
  issue: z.core.$ZodIssue,
  merged: ReadonlyMap<string, unknown>,
  file: string,
  flagOf: ReadonlyMap<string, string>,
): Problem[] {
  const [sectionName, name] = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((word) =>
      sectionName === undefined
        ? { file, key: word, what: "there is no such section", remedy: suggestSection(word) }
        : { file, key: `${sectionName}.${word}`, what: UNKNOWN_KEY, remedy: suggestKey(sectionName, word) },
    );
  }
  const section = merged.get(sectionName ?? "");
  if (sectionName === undefined || name === undefined || !isMapping(section)) {
    return [{ file, key: sectionName, what: "this is no section", expected: "a mapping of keys to values", found: showValue(section) }];
  }
  const key = `${sectionName}.${name}`;
  const description = findKey(sectionName, name);
  const custom = issue.code === "custom" ? issue.params : undefined;
  const expected = String(custom?.expected ?? description?.expected);
  const found = showValue(Object.hasOwn(section, name) ? section[name] : description?.fallback);
  const flag = flagOf.get(key);
  const place = flag === undefined ? { file, key } : { file: undefined, key: flag };
  if (custom?.remedy !== undefined) return [{ ...place, what: String(custom.what), found, remedy: String(custom.remedy) }];
  return [{ ...place, what: "invalid value", expected, found }];
}

/** If several keys are unknown, as in another model's config, appends their suggestions to their names, so that one message can list all of them. */
function mergeSuggestions(problems: readonly Problem[]): readonly Problem[] {
  const isUnknown = ({ what }: Problem): boolean => what === UNKNOWN_KEY;
  if (problems.filter(isUnknown).length < 2) return problems;
  const remedy = "see configs/nextvlad.yaml, or the config.yaml of a snapshot for all keys";
  return problems.map((problem) => {
    if (!isUnknown(problem)) return problem;
    const near = problem.remedy?.startsWith(NEAREST) ? `${problem.key} (${problem.remedy})` : problem.key;
    return { ...problem, key: near, remedy };
  });
}

/** Removes repeated problems: each invalid item of a list raises its own issue, but one per key is enough. */
function withoutRepeats(problems: readonly Problem[]): readonly Problem[] {
  return [...new Map(problems.map((problem) => [`${problem.key} ${problem.expected}`, problem])).values()];
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
