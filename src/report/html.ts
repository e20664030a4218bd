import { escapeText } from "../base/shown-value.js";

/** Text that is HTML; anything else is escaped when it is inserted. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

type Insertable = Html | string | number | readonly Html[];

const ENTITIES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Escapes text for HTML, as content or as a quoted attribute. Control characters and bidirectional marks become visible (`escapeText`). */
export function escapeHtml(text: string): string {
  return escapeText(text).replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

/** A template of HTML: inserted text is escaped, inserted HTML is not; of a list, each is inserted. */
export function html(parts: TemplateStringsArray, ...values: readonly Insertable[]): Html {
  const insert = (value: Insertable): string => {
    if (value instanceof Html) return value.text;
    return Array.isArray(value) ? value.map(insert).join("") : escapeHtml(String(value));
  };
  return new Html(parts.map((part, i) => part + (i < values.length ? insert(values[i] as Insertable) : "")).join(""));
}

/** Returns a script element with data, which the page's scripts read. No text in the data can end the element. */
export function jsonElement(value: unknown): Html {
  const json = JSON.stringify(value).replace(
    /[<>&\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return new Html(`<script type="application/json">${json}</script>`);
}
