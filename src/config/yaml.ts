import { type CST, type Document, isPair, isScalar, LineCounter, Parser, parseDocument, visit } from "yaml";
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

/** YAML's types that JSON has no counterpart of: the library makes a Map, a Set, pairs, bytes, a Date or a symbol of them. */
const TAG_PREFIX = "tag:yaml.org,2002:";
const UNSUPPORTED_TAGS: ReadonlySet<string | undefined> = new Set(
  ["omap", "set", "pairs", "binary", "timestamp", "merge"].map((name) => TAG_PREFIX + name),
);

/** Why a text is not one plain value, on one line. */
export interface YamlProblem {
  readonly problem: string;
  readonly cause?: unknown;
  readonly line?: number;
  /** The keys that lead to a value, with dots between them. */
  readonly key?: string;
  readonly expected?: string;
  readonly found?: string;
  readonly remedy?: string;
}

/** A text as YAML: a plain value, or what is wrong with it. */
export type YamlOutcome = { readonly value: unknown } | YamlProblem;

/** Reads a text as YAML 1.2 (so `1e-5` is a number and `True` a boolean). Throws nothing. An alias may make a value that holds itself. */
export function parseYaml(text: string): YamlOutcome {
  if (Buffer.byteLength(text) > MOST_YAML_BYTES) return { problem: `not YAML: more than ${MOST_YAML_BYTES} bytes` };
  try {
    if (isTooDeep(text)) return { problem: `not YAML: nested more than ${MOST_LEVELS} levels deep` };
    const lines = new LineCounter();
    const document = parseDocument(text, { logLevel: "error", lineCounter: lines });
    const [error] = document.errors;
    if (error?.code === "MULTIPLE_DOCS") {
      const remedy = "remove the lines `---` and `...` inside the file, or split it at them into several files";
      return { problem: "several YAML documents, where one is expected", line: lines.linePos(error.pos[0]).line, remedy };
    }
    if (error !== undefined) throw error;
    return findUnsupportedTag(document, lines) ?? { value: document.toJS() };
  } catch (cause) {
    const reason = firstLine(cause instanceof Error ? cause.message : String(cause));
    return { problem: `not YAML: ${showText(reason, MAX_PROBLEM_LENGTH)}`, cause };
  }
}

function findUnsupportedTag(document: Document, lines: LineCounter): YamlProblem | null {
  let problem: YamlProblem | null = null;
  visit(document, {
    Node: (_, node, path) => {
      if (!UNSUPPORTED_TAGS.has(node.tag)) return undefined;
      const tag = `!!${node.tag?.slice(TAG_PREFIX.length)}`;
      const keys = path.filter((part) => isPair(part)).map(({ key }) => key);
      const key = keys.map((part) => (isScalar(part) ? String(part.value) : "?")).join(".");
      // A block begins in the line after its key and tag.
      const last = keys.at(-1);
      const start = (isScalar(last) ? last.range : node.range)?.[0] ?? 0;
      const place = { ...(key === "" ? {} : { key }), line: lines.linePos(start).line };
      const expected = "a mapping, a list, text, a number, True, False or null";
      problem = { problem: `the tag ${tag} is not supported`, ...place, expected, found: tag, remedy: "remove the tag" };
      return visit.BREAK;
    },
  });
  return problem;
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
