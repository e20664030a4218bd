import { readFile, stat } from "node:fs/promises";
import { parseDocument } from "yaml";
import { fileError, NextvladError } from "../base/errors.js";

const LARGEST_BYTES = 1 << 20;
const INI_SECTION = /^\s*\[(MODEL|TRAIN|VALID|TEST|INFER)\]\s*$/m;

/**
 * The plain value in a YAML 1.2 file (so `1e-5` is a number and `True` a boolean).
 * Throws FILE_MISSING, FILE_UNREADABLE, and BAD_CONFIG with line and column where it is not YAML.
 */
export async function readYaml(file: string): Promise<unknown> {
  const text = await readText(file);
  if (INI_SECTION.test(text)) {
    const remedy = "write its sections as YAML, like configs/nextvlad.yaml: `MODEL:` and below it `  num_classes: 3862`";
    throw new NextvladError("BAD_CONFIG", "this is the INI form of PaddleVideo 1.5", { file, remedy });
  }
  const document = parseDocument(text, { logLevel: "error" });
  const [error] = document.errors;
  if (error !== undefined) throw notYaml(file, error.message, error);
  try {
    return document.toJS();
  } catch (cause) {
    throw notYaml(file, cause instanceof Error ? cause.message : String(cause), cause);
  }
}

async function readText(file: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > LARGEST_BYTES) {
      throw new NextvladError("BAD_CONFIG", "too large for a config file", {
        file,
        expected: `at most ${LARGEST_BYTES} bytes`,
        found: size,
      });
    }
    return await readFile(file, "utf8");
  } catch (error) {
    throw fileError(error, file, "read");
  }
}

function notYaml(file: string, message: string, cause: unknown): NextvladError {
  const firstLine = (message.split("\n")[0] ?? "").replace(/[.:]\s*$/, "");
  return new NextvladError("BAD_CONFIG", `not YAML: ${firstLine}`, { file }, cause);
}
