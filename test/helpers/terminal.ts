import { Writable } from "node:stream";

/** A stream that keeps what is written to it, as a terminal or as a pipe. */
export class Capture extends Writable {
  readonly isTTY: boolean;
  readonly columns: number;
  text = "";

  constructor(isTTY: boolean, columns = 120) {
    super({ decodeStrings: false });
    this.columns = columns;
    this.isTTY = isTTY;
  }

  override _write(chunk: string | Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }

  get stream(): NodeJS.WriteStream {
    return this as unknown as NodeJS.WriteStream;
  }
}

const ESCAPE = "\u001b";
const TOKEN = new RegExp(`${ESCAPE}7|${ESCAPE}8|${ESCAPE}\\[(\\d*)([A-Za-z])|\\r|\\n|[^${ESCAPE}\\r\\n]+`, "g");

/** The lines that a terminal shows after this output: carriage returns, saved cursors, erasing and columns; colours are dropped. Throws on what it does not know. */
export function screenOf(output: string): string[] {
  const lines: string[] = [""];
  let [row, column] = [0, 0];
  let saved: readonly [number, number] = [0, 0];
  let end = 0;
  for (const match of output.matchAll(TOKEN)) {
    if (match.index !== end) throw new Error(`unknown sequence at ${end}: ${JSON.stringify(output.slice(end, end + 10))}`);
    const [token, count = "", command] = match;
    end += token.length;
    const line = lines[row] ?? "";
    if (token === "\r") column = 0;
    else if (token === "\n") [row, column] = [row + 1, 0];
    else if (token === `${ESCAPE}7`) saved = [row, column];
    else if (token === `${ESCAPE}8`) [row, column] = saved;
    else if (command === undefined) {
      lines[row] = line.slice(0, column).padEnd(column) + token + line.slice(column + token.length);
      column += token.length;
    } else if (command === "G") column = Number(count || 1) - 1;
    else if (command === "K") lines[row] = count === "2" ? "" : line.slice(0, column);
    else if (command !== "m") throw new Error(`unknown sequence ${JSON.stringify(token)}`);
  }
  return lines.map((line) => line.trimEnd());
}
