import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { readInput } from "../base/input.js";
import { CONFIG } from "../checkpoints/snapshot-layout.js";
import { readYaml } from "../config/yaml.js";
import { type Diagnostics, parseDiagnostics } from "../evaluation/diagnostics.js";
import { type RunLog, readRunLog } from "./run-log.js";

/** A training run. */
export interface Run {
  /** The directory, as given. */
  readonly name: string;
  readonly log: RunLog;
  /** Values of its config as text, by `SECTION.key`; empty if the directory has no config that can be read. */
  readonly config: ReadonlyMap<string, string>;
}

/** An evaluation. */
export interface Evaluation {
  /** The directory, and the model's name if the directory has several evaluations. */
  readonly name: string;
  readonly diagnostics: Diagnostics;
}

/** What a report shows. */
export interface Sources {
  readonly runs: readonly Run[];
  readonly evaluations: readonly Evaluation[];
}

const LOG = "train.log.jsonl";
const DIAGNOSTICS = /_eval_diagnostics\.json$/;
const RESULT = /_eval_result\.json$/;
/** 50 times what an evaluation of 3,862 classes has. */
const MAX_DIAGNOSTICS_BYTES = 2 ** 24;

/**
 * Reads the runs and evaluations in some directories: each is the `--save-dir` of train, of eval, or of both. Throws FILE_MISSING if a directory is missing or
 * contains neither, FILE_UNREADABLE, BAD_FORMAT.
 */
export async function readSources(directories: readonly string[]): Promise<Sources> {
  const runs: Run[] = [];
  const evaluations: Evaluation[] = [];
  for (const directory of new Set(directories.map((path) => path.replace(/(?<=.)\/+$/, "")))) {
    const names = await listDirectory(directory);
    const found = names.filter((name) => DIAGNOSTICS.test(name));
    if (names.includes(LOG)) runs.push(await readRun(directory));
    else if (found.length === 0) throw nothingToReport(directory, names);
    for (const name of found) {
      const file = join(directory, name);
      const diagnostics = parseDiagnostics((await readInput(file, file, MAX_DIAGNOSTICS_BYTES)).toString("utf8"), file);
      evaluations.push({ name: found.length === 1 ? directory : `${directory}, ${name.replace(DIAGNOSTICS, "")}`, diagnostics });
    }
  }
  return { runs, evaluations };
}

async function listDirectory(directory: string): Promise<readonly string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOTDIR") throw fileError(error, directory, "read");
    const remedy = "pass the --save-dir of train or eval";
    throw new NextvladError("FILE_UNREADABLE", "cannot read: it is not a directory", { file: directory, remedy }, error);
  }
}

function nothingToReport(directory: string, names: readonly string[]): NextvladError {
  const result = names.find((name) => RESULT.test(name));
  const expected = `${LOG} or *_eval_diagnostics.json`;
  if (result === undefined) {
    const remedy = "pass the --save-dir of train or eval";
    return new NextvladError("FILE_MISSING", "the directory contains no run and no evaluation", { file: directory, expected, remedy });
  }
  const what = "the evaluation in this directory has no diagnostics, which older versions did not write";
  return new NextvladError("FILE_MISSING", what, { file: directory, expected, found: result, remedy: "run eval again" });
}

async function readRun(directory: string): Promise<Run> {
  const log = await readRunLog(join(directory, LOG));
  return { name: directory, log, config: await readConfigValues(join(directory, CONFIG)) };
}

/** Reads a config without checking it: a report does not depend on it. */
async function readConfigValues(file: string): Promise<ReadonlyMap<string, string>> {
  const values = new Map<string, string>();
  const config = await readYaml(file).catch(() => null);
  for (const [section, keys] of entriesOf(config)) {
    for (const [key, value] of entriesOf(keys)) values.set(`${section}.${key}`, typeof value === "string" ? value : JSON.stringify(value));
  }
  return values;
}

function entriesOf(value: unknown): readonly (readonly [string, unknown])[] {
  return typeof value === "object" && value !== null ? Object.entries(value) : [];
}
