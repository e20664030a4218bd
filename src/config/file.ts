import { NextvladError } from "../base/errors.js";
import { readAllOnce } from "../base/input.js";
import { MOST_YAML_BYTES, parseYaml } from "./yaml.js";

const INI_SECTION = /^\s*\[(MODEL|TRAIN|VALID|TEST|INFER)\]\s*$/m;

/** Reads the plain value of a YAML file (see `parseYaml`). Throws FILE_MISSING, FILE_UNREADABLE, and BAD_CONFIG, with line and column, if it is not YAML. */
export async function readYaml(file: string): Promise<unknown> {
  const text = await readText(file);
  if (INI_SECTION.test(text)) {
    const remedy = "write its sections as YAML, like configs/nextvlad.yaml: `MODEL:` and below it `  num_classes: 3862`";
    throw new NextvladError("BAD_CONFIG", "this is the INI form of PaddleVideo 1.5", { file, remedy });
  }
  return readYamlText(text, file);
}

/** Parses a YAML text; `file` is named in errors. Throws BAD_CONFIG if it is not a single plain value. */
export function readYamlText(text: string, file: string): unknown {
  const outcome = parseYaml(text);
  if ("value" in outcome) return outcome.value;
  const { problem, cause, ...details } = outcome;
  throw new NextvladError("BAD_CONFIG", problem, { file, ...details }, cause);
}

/** Reads a file that may be a pipe, such as `<(envsubst < template.yaml)`. Throws BAD_CONFIG if it is larger than MOST_YAML_BYTES. */
async function readText(file: string): Promise<string> {
  const details = { file, expected: `at most ${MOST_YAML_BYTES} bytes`, found: "more" };
  const text = await readAllOnce(file, MOST_YAML_BYTES, () => new NextvladError("BAD_CONFIG", "too large for a config file", details));
  return text.toString("utf8");
}
