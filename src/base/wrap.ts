/** Width of a terminal that does not report its own. */
export const DEFAULT_COLUMNS = 80;
/** Width of a tab stop. */
const TAB = 8;
/** Indent of the lines after the first, in lines that are no row of a table. */
const INDENT = 2;
/** A command for copying, such as "resume with: nextvlad ..." or "model: --set ...". */
const COMMAND = /: (?:nextvlad |--set )/;

/**
 * Breaks a line at spaces and tabs into lines of at most `columns` columns, where the terminal would break it inside words. In a row of a table, whose columns
 * are at least two spaces apart, the lines after the first begin at the last column. Longer words stay whole, for copying, and so do lines with a command.
 */
export function wrapLine(line: string, columns: number): readonly string[] {
  if (widthOf(line) <= columns || COMMAND.test(line)) return [line];
  const [head = ""] = /^.*(?: {2}|\t)/.exec(line) ?? [];
  const isRow = widthOf(head) > 0 && widthOf(head) <= columns / 2;
  const indent = " ".repeat(isRow ? widthOf(head) : INDENT);
  const lines: string[] = [];
  let current = isRow ? head : "";
  let isEmpty = true;
  for (const [token, , word = ""] of line.slice(current.length).matchAll(/(\s*)(\S+)/g)) {
    // The terminal breaks a word that is too long for any line, wherever it begins.
    if (isEmpty || widthOf(current + token) <= columns || widthOf(indent + word) > columns) current += token;
    else {
      lines.push(current);
      current = indent + word;
    }
    isEmpty = false;
  }
  return [...lines, current];
}

/** Returns the number of columns that a line takes. */
function widthOf(line: string): number {
  let width = 0;
  for (const character of line) width = character === "\t" ? (Math.floor(width / TAB) + 1) * TAB : width + 1;
  return width;
}

/** A flag with its value, or another word. */
const WORDS = /--[\w-]+ [^-\s]\S*|\S+/g;

/** Breaks a shell command between its words into lines of at most `columns` columns, each but the last with a backslash at its end, so that it can be copied. */
export function wrapCommand(command: string, columns: number): readonly string[] {
  const lines: string[] = [];
  for (const word of command.match(WORDS) ?? []) {
    const last = lines.at(-1);
    // The backslash takes two columns.
    if (last !== undefined && last.length + 1 + word.length <= columns - 2) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(last === undefined ? word : `  ${word}`);
  }
  return lines.map((line, i) => (i < lines.length - 1 ? `${line} \\` : line));
}
