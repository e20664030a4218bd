import type { z } from "zod";
import { NextvladError } from "../base/errors.js";
import { joinErrors } from "../base/problem-list.js";
import { showValue } from "../base/shown-value.js";
import { DID_YOU_MEAN, findKey, sectionNames, suggestKey, suggestSection } from "./keys.js";
import { type Config, configSchema, isMapping } from "./schema.js";
import { parseYaml, readYaml } from "./yaml.js";

/** A config value set by a flag. */
export interface Override {
  /** `TRAIN.batch_size` */
  readonly key: string;
  /** As typed: text is parsed according to the key's type. */
  readonly value: unknown;
  /** `--batch-size`, for messages. */
  readonly flag: string;
}

/** Overrides of a config file's values: those of flags, and `--set SECTION.key=value`, which overrides the flags. */
export interface Overrides {
  readonly flags?: readonly Override[];
  readonly settings?: readonly string[];
}

/** A problem in a config. */
interface Problem {
  /** The file it was read from; undefined for a flag. */
  readonly file: string | undefined;
  /** `TRAIN.epoch`, or `--epoch` for a flag's value. */
  readonly key: string | undefined;
  readonly what: string;
  readonly expected?: string;
  readonly found?: string;
  readonly remedy?: string;
}

const UNKNOWN_KEY = "unknown key";
const UNKNOWN_SECTION = "unknown section";

/** Reads, validates and completes a config file (see `buildConfig`). Throws FILE_MISSING, FILE_UNREADABLE, BAD_CONFIG. */
export async function loadConfig(file: string, overrides: Overrides = {}): Promise<Config> {
  return buildConfig(await readYaml(file), file, overrides);
}

const origins = new WeakMap<Config, ReadonlyMap<string, string>>();

/** Returns where the values of a config that were given come from, by key: the flag or the file. The other keys have their defaults. */
export function originsOf(config: Config): ReadonlyMap<string, string> {
  return origins.get(config) ?? new Map();
}

/** Returns a config with another seed, which counts as a default: its origin is unchanged. */
export function withSeed(config: Config, seed: number): Config {
  const changed = deepFreeze({ ...config, TRAIN: { ...config.TRAIN, seed } });
  origins.set(changed, originsOf(config));
  return changed;
}

/**
 * Validates a config file's value and completes it. Precedence, lowest first: defaults, file, flags, `--set`. `file` is named in messages.
 * Throws one BAD_CONFIG that lists all problems; an unknown key is listed with the closest known key.
 */
export function buildConfig(value: unknown, file: string, overrides: Overrides = {}): Config {
  if (!isMapping(value) || Object.keys(value).length === 0) {
    const expected = `a mapping with the sections ${sectionNames.join(", ")}`;
    const found = value === null || isMapping(value) ? "nothing" : showValue(value);
    throw problemsError([{ file, key: undefined, what: "not a config file", expected, found }]);
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
  if (problems.length > 0 || !result.success) throw problemsError(removeDuplicates(mergeSuggestions(problems)));
  const given = [...merged].flatMap(([name, section]) => (isMapping(section) ? Object.keys(section).map((key) => `${name}.${key}`) : []));
  origins.set(result.data, new Map(given.map((key) => [key, flagOf.get(key) ?? file])));
  return deepFreeze(result.data);
}

const SETTING = /^([^.=\s]+)\.([^=\s]+)=(.*)$/s;
const YAML_START = /^\s*["'[{]/;

/**
 * Parses `--set SECTION.key=value`. A value that starts with a quote, bracket or brace is YAML; any other is plain text, so that `*.tfrecord` needs no quotes.
 * If the form, the section, the key or the YAML is invalid, adds to `problems` and returns an empty array.
 */
function parseSetting(text: string, problems: Problem[]): Override[] {
  const reject = (key: string, what: string, remedy: string): Override[] => {
    problems.push({ file: undefined, key, what, remedy });
    return [];
  };
  const parts = SETTING.exec(text);
  if (parts === null) return reject(`--set ${text}`, "not of the form SECTION.key=value", "write it like --set TRAIN.batch_size=80");
  const [, section = "", name = "", written = ""] = parts;
  const key = `${section}.${name}`;
  const flag = `--set ${key}`;
  if (!sectionNames.some((known) => known === section)) return reject(flag, UNKNOWN_SECTION, suggestSection(section));
  if (findKey(section, name) === undefined) return reject(flag, UNKNOWN_KEY, suggestKey(section, name));
  if (!YAML_START.test(written)) return [{ key, value: written, flag }];
  const outcome = parseYaml(written);
  if ("value" in outcome) return [{ key, value: outcome.value, flag }];
  return reject(flag, outcome.problem, outcome.remedy ?? "check its quotes and brackets");
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
        ? { file, key: word, what: UNKNOWN_SECTION, remedy: suggestSection(word) }
        : { file, key: `${sectionName}.${word}`, what: UNKNOWN_KEY, remedy: suggestKey(sectionName, word) },
    );
  }
  const section = merged.get(sectionName ?? "");
  if (sectionName === undefined || name === undefined || !isMapping(section)) {
    return [{ file, key: sectionName, what: "not a section", expected: "a mapping of keys to values", found: showValue(section) }];
  }
  const key = `${sectionName}.${name}`;
  const description = findKey(sectionName, name);
  const custom = issue.code === "custom" ? issue.params : undefined;
  const expected = String(custom?.expected ?? description?.expected);
  const found = showValue(Object.hasOwn(section, name) ? section[name] : description?.default);
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
    const near = problem.remedy?.startsWith(DID_YOU_MEAN) ? `${problem.key} (${problem.remedy})` : problem.key;
    return { ...problem, key: near, remedy };
  });
}

/** Removes duplicate problems: each invalid item of a list raises its own issue, but one per key is enough. */
function removeDuplicates(problems: readonly Problem[]): readonly Problem[] {
  return [...new Map(problems.map((problem) => [`${problem.key} ${problem.expected}`, problem])).values()];
}

/** Returns one BAD_CONFIG error for all problems, at least one. */
function problemsError(problems: readonly Problem[]): NextvladError {
  const errors = problems.map(({ what, ...details }) => {
    const given = Object.entries(details).filter(([, value]) => value !== undefined);
    return new NextvladError("BAD_CONFIG", what, Object.fromEntries(given));
  });
  return joinErrors(errors, "BAD_CONFIG", (count) => `the config has ${count} problems`);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}
