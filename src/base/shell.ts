import { encodeBytes } from "./byte-text.js";
import { escapeText } from "./shown-value.js";

/** Quotes a word for a shell. Control and formatting characters become bytes in the form $'\x1B' of Bash and zsh, so that printing the command is safe. */
export function quoteForShell(word: string): string {
  if (escapeText(word) !== word) return `$'${Array.from(word, quoteCharacter).join("")}'`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function quoteCharacter(character: string): string {
  if (character === "'" || character === "\\") return `\\${character}`;
  if (escapeText(character) === character) return character;
  return Array.from(encodeBytes(character), (byte) => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("");
}
