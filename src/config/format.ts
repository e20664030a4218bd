import { Document, isMap, isScalar, type Pair } from "yaml";
import { findKey } from "./keys.js";
import type { Config } from "./schema.js";

/** Formats a config as YAML with every key and its help as a comment; `loadConfig` reads the same config back. */
export function formatConfig(config: Config): string {
  const document = new Document(config);
  if (!isMap(document.contents)) throw new TypeError("a config is a mapping");
  for (const section of document.contents.items) {
    if (!isMap(section.value)) continue;
    for (const pair of section.value.items) explain(nameOf(section), pair);
  }
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

function explain(section: string, pair: Pair): void {
  const key = findKey(section, nameOf(pair));
  if (key !== undefined && isScalar(pair.key)) pair.key.commentBefore = ` ${key.help}`;
}

function nameOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
}
