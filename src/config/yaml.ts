import { type CST, type Document, isPair, isScalar, LineCounter, Parser, parseDocument, visit } from "yaml";
import { NextvladError } from "../base/errors.js";
import { readAllOnce } from "../base/input.js";
import { showText } from "../base/shown-value.js";

/** Maximum size of a YAML text in bytes. A config has a tenth of it. The parser takes quadratic time for some texts: 0.5 s at this size. */
const MAX_YAML_BYTES = 1 << 14;
/**
 * Maximum nesting depth; a config has three levels. `parseDocument` recurses for each level, and V8 may end the whole process instead of throwing on a stack
 * overflow.
 */
const MAX_LEVELS = 64;

/** Maximum length of the parser's message, which may quote the text. */
const MAX_PROBLEM_LENGTH = 200;

const INI_SECTION = /^\s*\[(MODEL|TRAIN|VALID|TEST|INFER)\]\s*$/m;

/** Reads the plain value of a YAML file (see `parseYaml`). Throws FILE_MISSING, FILE_UNREADABLE, and BAD_CONFIG, with line and column, if it is not YAML. */
export async function readYaml(file: string): Promise<unknown> {
  const text = await readText(file);
  if (INI_SECTION.test(text)) {
    const remedy = "write its sections as YAML, as in configs/nextvlad.yaml: `MODEL:`, then `  num_classes: 3862`";
    throw new NextvladError("BAD_CONFIG", "the INI format of PaddleVideo 1.5 is not supported", { file, remedy });
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

/** Reads a file that may be a pipe, such as `<(envsubst < template.yaml)`. Throws BAD_CONFIG if it is larger than MAX_YAML_BYTES. */
async function readText(file: string): Promise<string> {
  const details = { file, expected: `at most ${MAX_YAML_BYTES} bytes`, found: "more" };
  const text = await readAllOnce(file, MAX_YAML_BYTES, () => new NextvladError("BAD_CONFIG", "too large for a config file", details));
  return text.toString("utf8");
}

/** YAML types without a JSON counterpart: the library converts them to a Map, a Set, pairs, bytes, a Date or a symbol. */
const TAG_PREFIX = "tag:yaml.org,2002:";
const UNSUPPORTED_TAGS: ReadonlySet<string | undefined> = new Set(
  ["omap", "set", "pairs", "binary", "timestamp", "merge"].map((name) => TAG_PREFIX + name),
);

/** Why a text is not a single plain value. */
interface YamlProblem {
  readonly problem: string;
  readonly cause?: unknown;
  readonly line?: number;
  /** The keys that lead to the value, joined by dots. */
  readonly key?: string;
  readonly expected?: string;
  readonly found?: string;
  readonly remedy?: string;
}

/** The plain value of a YAML text, or why it has none. */
type YamlOutcome = { readonly value: unknown } | YamlProblem;

/** Parses a text as YAML 1.2 (so `1e-5` is a number and `True` a boolean). Does not throw. With aliases, the value may contain itself. */
export function parseYaml(text: string): YamlOutcome {
  if (Buffer.byteLength(text) > MAX_YAML_BYTES) return { problem: `invalid YAML: more than ${MAX_YAML_BYTES} bytes` };
  try {
    if (isTooDeep(text)) return { problem: `invalid YAML: nested more than ${MAX_LEVELS} levels deep` };
    const lines = new LineCounter();
    const document = parseDocument(text, { logLevel: "error", lineCounter: lines });
    const [error] = document.errors;
    if (error?.code === "MULTIPLE_DOCS") {
      const remedy = "remove the lines `---` and `...` inside the file, or split the file at them";
      return { problem: "more than one YAML document", line: lines.linePos(error.pos[0]).line, remedy };
    }
    if (error !== undefined) throw error;
    return findUnsupportedTag(document, lines) ?? { value: document.toJS() };
  } catch (cause) {
    const reason = firstLine(cause instanceof Error ? cause.message : String(cause));
    return { problem: `invalid YAML: ${showText(reason, MAX_PROBLEM_LENGTH)}`, cause };
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
      // A block starts on the line after its key and tag, so the position of the key is reported.
      const last = keys.at(-1);
      const start = (isScalar(last) ? last.range : node.range)?.[0] ?? 0;
      const place = { ...(key === "" ? {} : { key }), line: lines.linePos(start).line };
      const expected = "a mapping, a list, text, a number, True, False or null";
      problem = { problem: `unsupported tag ${tag}`, ...place, expected, found: tag, remedy: "remove the tag" };
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
    if (level > MAX_LEVELS) return true;
    for (const { key, value } of token.items) for (const part of [key, value]) if (part) open.push({ token: part, level: level + 1 });
  }
  return false;
}
