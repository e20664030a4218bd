import { type CST, type Document, isPair, isScalar, LineCounter, Parser, parseDocument, visit } from "yaml";
import { showText } from "../base/shown-value.js";

/** Maximum size of a YAML text in bytes. A config has a tenth of it. The parser takes quadratic time for some texts: 0.5 s at this size. */
export const MOST_YAML_BYTES = 1 << 14;
/**
 * Maximum nesting depth; a config has three levels. `parseDocument` recurses for each level, and V8 may end the whole process instead of throwing on a stack
 * overflow.
 */
const MOST_LEVELS = 64;

/** Maximum length of the parser's message, which may quote the text. */
const MAX_PROBLEM_LENGTH = 200;

/** YAML types without a JSON counterpart: the library converts them to a Map, a Set, pairs, bytes, a Date or a symbol. */
const TAG_PREFIX = "tag:yaml.org,2002:";
const UNSUPPORTED_TAGS: ReadonlySet<string | undefined> = new Set(
  ["omap", "set", "pairs", "binary", "timestamp", "merge"].map((name) => TAG_PREFIX + name),
);

/** Why a text is not a single plain value. */
export interface YamlProblem {
  readonly problem: string;
  readonly cause?: unknown;
  readonly line?: number;
  /** The keys that lead to the value, joined by dots. */
  readonly key?: string;
  readonly expected?: string;
  readonly found?: string;
  readonly remedy?: string;
}

/** The plain value of a YAML text, or why there is none. */
export type YamlOutcome = { readonly value: unknown } | YamlProblem;

/** Parses a text as YAML 1.2 (so `1e-5` is a number and `True` a boolean). Does not throw. With aliases, the value may contain itself. */
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
      // A block begins on the line after its key and tag, so the position of the key is reported.
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

/** Checks the depth of the concrete syntax tree, which is built and walked without recursion. */
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
