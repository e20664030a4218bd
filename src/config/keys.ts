import { distance } from "fastest-levenshtein";
import { Document, isMap, isScalar, type Pair } from "yaml";
import { type Config, type KeyDocs, keyDocs, type SectionName, sections } from "./schema.js";

/** A declared key: section and name (`TRAIN`, `batch_size`), default, range in words, and help. */
export interface KeyDescription extends KeyDocs {
  readonly section: SectionName;
  readonly name: string;
  readonly default: unknown;
}

/** Section names, in the order of a config file. */
export const sectionNames = Object.keys(sections) as readonly SectionName[];

const descriptions: readonly KeyDescription[] = sectionNames.flatMap((section) =>
  Object.entries(sections[section].shape).map(([name, schema]) => {
    const docs = keyDocs.get(schema) as KeyDocs;
    return { section, name, default: schema.parse(undefined), ...docs };
  }),
);

/** Returns all keys, in the order of a config file. */
export function describeKeys(): readonly KeyDescription[] {
  return descriptions;
}

/** Returns the key with that section and name; undefined if it is unknown. */
export function findKey(section: string, name: string): KeyDescription | undefined {
  return descriptions.find((key) => key.section === section && key.name === name);
}

/** Formats a config as YAML with every key and its help as a comment; `loadConfig` reads the same config back. */
export function formatConfig(config: Config): string {
  const document = new Document(config);
  if (!isMap(document.contents)) throw new TypeError("a config is a mapping");
  for (const section of document.contents.items) {
    if (!isMap(section.value)) continue;
    for (const pair of section.value.items) {
      const key = findKey(nameOf(section), nameOf(pair));
      if (key !== undefined && isScalar(pair.key)) pair.key.commentBefore = ` ${key.help}`;
    }
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

function nameOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
}

/** Returns the candidate with the smallest edit distance, ignoring case; null if none is close. */
function nearest(word: string, candidates: readonly string[]): string | null {
  let best: string | null = null;
  let minEdits = Math.max(2, Math.floor(word.length * 0.4)) + 1;
  for (const candidate of candidates) {
    const edits = distance(word.toLowerCase(), candidate.toLowerCase());
    if (edits < minEdits) [best, minEdits] = [candidate, edits];
  }
  return best;
}

/** Start of a suggestion of one name. */
export const DID_YOU_MEAN = "did you mean ";

/** Returns a suggestion for an unknown section: the closest section, or a list of all sections. */
export function suggestSection(word: string): string {
  const near = nearest(word, sectionNames);
  return near === null ? `the sections are ${sectionNames.join(", ")}` : `${DID_YOU_MEAN}${near}?`;
}

/** Returns a suggestion for an unknown key: the same key in another section, else the closest key, else a list of the section's keys. */
export function suggestKey(section: string, word: string): string {
  const elsewhere = descriptions.filter((key) => key.name === word).map((key) => `${key.section}.${key.name}`);
  if (elsewhere.length > 0) return `${DID_YOU_MEAN}${elsewhere.join(" or ")}?`;
  const own = descriptions.filter((key) => key.section === section).map((key) => key.name);
  const near = nearest(word, own);
  if (near !== null) return `${DID_YOU_MEAN}${section}.${near}?`;
  const all = nearest(
    word,
    descriptions.map((key) => key.name),
  );
  const home = descriptions.find((key) => key.name === all);
  if (home !== undefined) return `${DID_YOU_MEAN}${home.section}.${home.name}?`;
  return `the keys of ${section} are ${own.join(", ")}`;
}
