import { type Html, html } from "./html.js";

/** A column of a table: its heading, and whether it has numbers, which are aligned to the right. */
export interface Column {
  readonly title: string;
  readonly isNumeric: boolean;
}

export const text = (title: string): Column => ({ title, isNumeric: false });
export const number = (title: string): Column => ({ title, isNumeric: true });

/** Returns a table in a region that scrolls, also with the keyboard. `rows`: a `tr` each, with as many cells as there are columns. */
export function plainTable(caption: string, columns: readonly Column[], rows: readonly Html[]): Html {
  return table(caption, rows, columns, ({ title }) => html`${title}`, "");
}

/** As `plainTable`; the page's script sorts the rows by the column whose heading is pressed. */
export function sortableTable(caption: string, columns: readonly Column[], rows: readonly Html[]): Html {
  return table(caption, rows, columns, ({ title }) => html`<button type="button">${title}</button>`, "sortable");
}

function table(
  caption: string,
  rows: readonly Html[],
  columns: readonly Column[],
  heading: (column: Column) => Html,
  classes: string,
): Html {
  const headings = columns.map((column) => html`<th scope="col" class="${column.isNumeric ? "number" : ""}">${heading(column)}</th>`);
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0"><table class="${classes}"><caption>${caption}</caption>
<thead><tr>${headings}</tr></thead><tbody>${rows}</tbody></table></div>`;
}
