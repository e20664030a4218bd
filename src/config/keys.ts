import { distance } from "fastest-levenshtein";
import { type KeyNotes, keyNotes, type SectionName, sections } from "./schema.js";

/** A declared key: section and name (`TRAIN`, `batch_size`), default, range in words, and help. */
export interface KeyDescription extends KeyNotes {
  readonly section: SectionName;
  readonly name: string;
  readonly fallback: unknown;
}

/** Section names, in the order of a config file. */
export const sectionNames = Object.keys(sections) as readonly SectionName[];

const descriptions: readonly KeyDescription[] = sectionNames.flatMap((section) =>
  Object.entries(sections[section].shape).map(([name, schema]) => {
    const notes = keyNotes.get(schema) as KeyNotes;
    return { section, name, fallback: schema.parse(undefined), ...notes };
  }),
);

/** Returns all keys, in the order of a config file. */
export function describeKeys(): readonly KeyDescription[] {
  return descriptions;
}

/** Returns the key with that section and name; undefined if there is none. */
export function findKey(section: string, name: string): KeyDescription | undefined {
  return descriptions.find((key) => key.section === section && key.name === name);
}

/** Returns the candidate with the smallest edit distance, ignoring case; null if none is close. */
function nearest(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let fewest = Math.max(2, Math.floor(word.length * 0.4)) + 1;
  for (const candidate of candidates) {
    const edits = distance(word.toLowerCase(), candidate.toLowerCase());
    if (edits < fewest) [best, fewest] = [candidate, edits];
  }
  return best;
}

/** First words of a suggestion of one key. */
export const NEAREST = "the nearest is";

/** Returns a suggestion for an unknown section: the closest section, or a list of all sections. */
export function suggestSection(word: string): string {
  const near = nearest(word, sectionNames);
  return near === null ? `the sections are ${sectionNames.join(", ")}` : `${NEAREST} ${near}`;
}

/** Returns a suggestion for an unknown key: the same key in another section, else the closest key, else a list of the section's keys. */
export function suggestKey(section: string, word: string): string {
  const elsewhere = descriptions.filter((key) => key.name === word).map((key) => `${key.section}.${key.name}`);
  if (elsewhere.length > 0) return `${NEAREST} ${elsewhere.join(" or ")}`;
  const own = descriptions.filter((key) => key.section === section).map((key) => key.name);
  const near = nearest(word, own);
  if (near !== null) return `${NEAREST} ${section}.${near}`;
  const all = nearest(
    word,
    descriptions.map((key) => key.name),
  );
  const home = descriptions.find((key) => key.name === all);
  if (home !== undefined) return `${NEAREST} ${home.section}.${home.name}`;
  return `the keys of ${section} are ${own.join(", ")}`;
}
