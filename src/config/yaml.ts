import { type CST, Parser, parseDocument } from "yaml";
import { showText } from "../base/shown-value.js";

/** The most text that is read. A config takes a tenth of it, and the parser takes time that grows with the square of some: half a second for so much. */
export const MOST_YAML_BYTES = 1 << 14;
/**
 * How deep values may lie in one another; a config has three levels. The parser calls upon itself for each, and where its stack runs out, V8 may end the
 * whole process instead of throwing.
 */
const MOST_LEVELS = 64;

/** The parser's message may quote the text. */
const MAX_PROBLEM_LENGTH = 200;

/** What a text is as YAML: a plain value, or why it is none, in words of one line. */
export type YamlOutcome = { readonly value: unknown } | { readonly problem: string; readonly cause: unknown };

/** Reads a text as YAML 1.2 (so `1e-5` is a number and `True` a boolean). Throws nothing. An alias may make a value that holds itself. */
export function parseYaml(text: string): YamlOutcome {
  if (Buffer.byteLength(text) > MOST_YAML_BYTES) return { problem: `more than ${MOST_YAML_BYTES} bytes`, cause: undefined };
  try {
    if (isTooDeep(text)) return { problem: `nested more than ${MOST_LEVELS} levels deep`, cause: undefined };
    const document = parseDocument(text, { logLevel: "error" });
    const [error] = document.errors;
    if (error !== undefined) throw error;
    return { value: document.toJS() };
  } catch (cause) {
    return { problem: showText(firstLine(cause instanceof Error ? cause.message : String(cause)), MAX_PROBLEM_LENGTH), cause };
  }
}

function firstLine(message: string): string {
  return (message.split("\n")[0] ?? "").replace(/[.:]\s*$/, "");
}

/** Looks at the text's tokens, which are told apart without such calls. */
function isTooDeep(text: string): boolean {
  const open: { readonly token: CST.Token; readonly level: number }[] = [];
  for (const token of new Parser().parse(text)) if (token.type === "document" && token.value) open.push({ token: token.value, level: 1 });
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { token, level } = next;
    if (!("items" in token)) continue;
    if (level > MOST_LEVELS) return true;
    for (const { key, value } of token.items) for (const part of [key, value]) if (part) open.push({ token: part, level: level + 1 });
  }
  return false;
}
