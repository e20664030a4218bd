import { distance } from "fastest-levenshtein";
import { type KeyNotes, keyNotes, type SectionName, sections } from "./schema.js";

/** A key as it is declared: `TRAIN`, `batch_size`, its default, its range in words and what it is for. */
export interface KeyDescription extends KeyNotes {
  readonly section: SectionName;
  readonly name: string;
  readonly fallback: unknown;
}

/** The sections' names, in the order of a config file. */
export const sectionNames = Object.keys(sections) as readonly SectionName[];

const descriptions: readonly KeyDescription[] = sectionNames.flatMap((section) =>
  Object.entries(sections[section].shape).map(([name, schema]) => {
    const notes = keyNotes.get(schema) as KeyNotes;
    return { section, name, fallback: schema.parse(undefined), ...notes };
  }),
);

/** Every key there is, in the order of a config file. */
export function describeKeys(): readonly KeyDescription[] {
  return descriptions;
}

/** The key of that section and name, or undefined. */
export function findKey(section: string, name: string): KeyDescription | undefined {
  return descriptions.find((key) => key.section === section && key.name === name);
}

/** The candidate that takes the fewest edits, whatever the case of letters; null where none is near. */
function nearest(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let fewest = Math.max(2, Math.floor(word.length * 0.4)) + 1;
  for (const candidate of candidates) {
    const edits = distance(word.toLowerCase(), candidate.toLowerCase());
    if (edits < fewest) [best, fewest] = [candidate, edits];
  }
  return best;
}

/** How a suggestion of one key begins. */
export const NEAREST = "the nearest is";

/** What to write instead of a section that does not exist: the nearest, or all of them. */
export function suggestSection(word: string): string {
  const near = nearest(word, sectionNames);
  return near === null ? `the sections are ${sectionNames.join(", ")}` : `${NEAREST} ${near}`;
}

/** What to write instead of a key that its section does not have: the same key of another section, the nearest key, or all of the section's. */
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
