import { readFile, stat } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { MOST_YAML_BYTES, parseYaml } from "./yaml.js";

const INI_SECTION = /^\s*\[(MODEL|TRAIN|VALID|TEST|INFER)\]\s*$/m;

/**
 * The plain value in a YAML file (see `parseYaml`).
 * Throws FILE_MISSING, FILE_UNREADABLE, and BAD_CONFIG with line and column where it is not YAML.
 */
export async function readYaml(file: string): Promise<unknown> {
  const text = await readText(file);
  if (INI_SECTION.test(text)) {
    const remedy = "write its sections as YAML, like configs/nextvlad.yaml: `MODEL:` and below it `  num_classes: 3862`";
    throw new NextvladError("BAD_CONFIG", "this is the INI form of PaddleVideo 1.5", { file, remedy });
  }
  return readYamlText(text, file);
}

/** The plain value of a YAML text; `file` is named in errors. Throws BAD_CONFIG where it is not one plain value. */
export function readYamlText(text: string, file: string): unknown {
  const outcome = parseYaml(text);
  if ("value" in outcome) return outcome.value;
  const { problem, cause, ...details } = outcome;
  throw new NextvladError("BAD_CONFIG", problem, { file, ...details }, cause);
}

async function readText(file: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > MOST_YAML_BYTES) {
      throw new NextvladError("BAD_CONFIG", "too large for a config file", {
        file,
        expected: `at most ${MOST_YAML_BYTES} bytes`,
        found: size,
      });
    }
    return await readFile(file, "utf8");
  } catch (error) {
    throw fileError(error, file, "read");
  }
}
