import { parse } from "@babel/parser";
import { type Expression, type Node, VISITOR_KEYS } from "@babel/types";

/** One small change to a source file. */
export interface Mutant {
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  /** The range that is replaced: `source.slice(start, end)`. */
  readonly start: number;
  readonly end: number;
  /** The new text, or null to remove the statement. */
  readonly replacement: string | null;
  /** File and change in one line, as in `accepted.json`. It does not change when the code moves within its file. */
  readonly key: string;
}

const SWAPPED_OPERATORS: Readonly<Record<string, string>> = {
  "+": "-",
  "-": "+",
  "*": "/",
  "/": "*",
  "%": "*",
  "**": "*",
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "===": "!==",
  "!==": "===",
  "&&": "||",
  "||": "&&",
  "&": "|",
  "|": "&",
  "<<": ">>",
  ">>": "<<",
  ">>>": "<<",
  "+=": "-=",
  "-=": "+=",
  "*=": "/=",
  "/=": "*=",
};

const SWAPPED_FUNCTIONS: Readonly<Record<string, string>> = {
  "Math.min": "Math.max",
  "Math.max": "Math.min",
  "Math.floor": "Math.ceil",
  "Math.ceil": "Math.floor",
};

/** Kernels whose first argument has the type of the result, so that a call can be replaced by it. */
const REPLACED_BY_ARGUMENT = /^(add|addBias|subtract|multiply|divide|square|rsqrt|sigmoid|softplus|relu|negate|minimum|maximum|exp|log)$/;
const ORDERED_ARGUMENTS = /^(subtract|divide|matMul|sigmoidGradient|reluGradient)$/;

/** Calls for messages, logs and errors, which these tests do not check. */
const SKIPPED_CALLEES = /(^|\.)(log|progress|telemetry)(\.|$)|^(describe|show|format|print|warn)/i;

/** Finds every mutant of a TypeScript source. */
export function findMutants(source: string, file: string): readonly Mutant[] {
  const found: Omit<Mutant, "key">[] = [];
  const textOf = (node: Node): string => source.slice(node.start as number, node.end as number);
  const add = (node: Node, replacement: string | null): void => {
    const { start, end, loc } = node;
    found.push({ file, line: loc?.start.line as number, start: start as number, end: end as number, replacement });
  };

  const visit = (node: Node, parent: Node | null): void => {
    if (isSkipped(node, textOf)) return;
    mutate(node, parent, textOf, add);
    for (const name of VISITOR_KEYS[node.type] ?? []) {
      // Skip: a mutated update causes an endless loop, which only costs time.
      if (node.type === "ForStatement" && name === "update") continue;
      const child = (node as unknown as Record<string, Node | (Node | null)[] | null | undefined>)[name];
      for (const one of Array.isArray(child) ? child : [child]) if (one) visit(one, node);
    }
  };
  visit(parse(source, { sourceType: "module", plugins: ["typescript"] }).program, null);
  return withKeys(found, source);
}

function isSkipped(node: Node, textOf: (node: Node) => string): boolean {
  if (node.type.startsWith("TS")) return !("expression" in node);
  if (node.type === "CallExpression") return SKIPPED_CALLEES.test(textOf(node.callee));
  return /^(ThrowStatement|TemplateLiteral|ImportDeclaration|Export(All|Named)Declaration)$/.test(node.type)
    ? !("declaration" in node && node.declaration)
    : false;
}

function mutate(
  node: Node,
  parent: Node | null,
  textOf: (node: Node) => string,
  add: (node: Node, replacement: string | null) => void,
): void {
  switch (node.type) {
    case "BinaryExpression":
    case "LogicalExpression":
    case "AssignmentExpression": {
      const swapped = SWAPPED_OPERATORS[node.operator];
      // After a type, without parentheses, these would be operators of types.
      const left = /^[|&]$/.test(swapped ?? "") && node.left.type === "TSAsExpression" ? `(${textOf(node.left)})` : textOf(node.left);
      if (swapped !== undefined && !isText(node.left) && !isText(node.right)) add(node, `${left} ${swapped} ${textOf(node.right)}`);
      if (node.operator === "??") add(node, textOf(node.right));
      break;
    }
    case "UnaryExpression":
      if (node.operator === "!" || (node.operator === "-" && node.argument.type !== "NumericLiteral")) add(node, textOf(node.argument));
      break;
    case "NumericLiteral":
      add(node, String(Number.isInteger(node.value) ? node.value + 1 : node.value * 2));
      break;
    case "BooleanLiteral":
      add(node, String(!node.value));
      break;
    case "IfStatement":
    case "WhileStatement":
    case "ConditionalExpression":
      // Conditions with operators are mutated at the operators.
      if (/^(Identifier|.*MemberExpression|.*CallExpression|AwaitExpression)$/.test(node.test.type))
        add(node.test, `!(${textOf(node.test)})`);
      break;
    case "CallExpression":
      mutateCall(textOf(node.callee), node.arguments as readonly Expression[], node, textOf, add);
      break;
    case "ExpressionStatement":
      if (parent?.type !== "Program" && hasEffect(node.expression, textOf)) add(node, null);
      break;
    default:
  }
}

function mutateCall(
  callee: string,
  given: readonly Expression[],
  node: Node,
  textOf: (node: Node) => string,
  add: (node: Node, replacement: string | null) => void,
): void {
  const [first, second, ...rest] = given;
  const swapped = SWAPPED_FUNCTIONS[callee];
  if (swapped !== undefined) add(node, `${swapped}(${given.map(textOf).join(", ")})`);
  if (first === undefined || first.type === ("SpreadElement" as string)) return;
  if (REPLACED_BY_ARGUMENT.test(callee)) add(node, textOf(first));
  if (second !== undefined && ORDERED_ARGUMENTS.test(callee)) add(node, `${callee}(${[second, first, ...rest].map(textOf).join(", ")})`);
}

/** Returns whether an expression statement has an effect that tests can check. */
function hasEffect(expression: Expression, textOf: (node: Node) => string): boolean {
  const inner = expression.type === "AwaitExpression" ? expression.argument : expression;
  return /CallExpression|AssignmentExpression|UpdateExpression/.test(inner.type) && !isSkipped(inner, textOf);
}

const isText = (node: Node): boolean => node.type === "StringLiteral" || node.type === "TemplateLiteral";

const SHORT = 20;

function withKeys(found: readonly Omit<Mutant, "key">[], source: string): readonly Mutant[] {
  const counts = new Map<string, number>();
  const inOneLine = (text: string): string => text.replace(/\s+/g, " ");
  return found.map((mutant) => {
    const { file, start, end, replacement } = mutant;
    const original = inOneLine(source.slice(start, end));
    // A short change is often ambiguous, so add the line.
    const line = source.slice(source.lastIndexOf("\n", start) + 1, source.indexOf("\n", end)).trim();
    const place = original.length < SHORT ? ` in: ${inOneLine(line)}` : "";
    const change = `${file}: ${original} -> ${replacement === null ? "(removed)" : inOneLine(replacement)}${place}`;
    const nth = (counts.get(change) ?? 0) + 1;
    counts.set(change, nth);
    return { ...mutant, key: nth === 1 ? change : `${change} (${nth})` };
  });
}

/** Returns the source with all mutants inserted. Each takes effect if `$m` returns true for its number, which is its index in `mutants` plus `first`. */
export function instrument(source: string, mutants: readonly Mutant[], first: number): string {
  const sites = new Map<string, { start: number; end: number; mutants: { number: number; replacement: string | null }[] }>();
  for (const [i, { start, end, replacement }] of mutants.entries()) {
    const site = sites.get(`${start} ${end}`) ?? { start, end, mutants: [] };
    sites.set(`${start} ${end}`, site);
    site.mutants.push({ number: first + i, replacement });
  }
  // Outer sites before inner ones.
  const ordered = [...sites.values()].sort((a, b) => a.start - b.start || b.end - a.end);
  let next = 0;
  const render = (start: number, end: number): string => {
    let text = "";
    let at = start;
    for (let site = ordered[next]; site !== undefined && site.start < end; site = ordered[next]) {
      next++;
      text += source.slice(at, site.start);
      at = site.end;
      text += site.mutants.reduce((inner, mutant) => choose(mutant.number, mutant.replacement, inner), render(site.start, site.end));
    }
    return text + source.slice(at, end);
  };
  return render(0, source.length);
}

function choose(number: number, replacement: string | null, original: string): string {
  return replacement === null ? `{ if (!$m(${number})) { ${original} } }` : `($m(${number}) ? (${replacement}) : (${original}))`;
}
