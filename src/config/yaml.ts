import { parseDocument } from "yaml";

/** The most text that is read. A config takes a tenth of it, and the parser takes time that grows with the square of some: half a second for so much. */
export const MOST_YAML_BYTES = 1 << 14;

/** What a text is as YAML: a plain value, or why it is none, in words of one line. */
export type YamlOutcome = { readonly value: unknown } | { readonly problem: string; readonly cause: unknown };

/** Reads a text as YAML 1.2 (so `1e-5` is a number and `True` a boolean). Throws nothing. An alias may make a value that holds itself. */
export function parseYaml(text: string): YamlOutcome {
  if (Buffer.byteLength(text) > MOST_YAML_BYTES) return { problem: `more than ${MOST_YAML_BYTES} bytes`, cause: undefined };
  try {
    const document = parseDocument(text, { logLevel: "error" });
    const [error] = document.errors;
    if (error !== undefined) throw error;
    return { value: document.toJS() };
  } catch (cause) {
    return { problem: firstLine(cause instanceof Error ? cause.message : String(cause)), cause };
  }
}

function firstLine(message: string): string {
  const [line = ""] = message.split("\n");
  // The parser calls upon itself for each level.
  return line.replace("Maximum call stack size exceeded", "nested too deeply").replace(/[.:]\s*$/, "");
}
