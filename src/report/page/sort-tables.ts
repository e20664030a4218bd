/** Makes the tables of a report sortable by the headings' buttons, and the table of classes searchable. */

const collator = new Intl.Collator("en", { numeric: true });

/** Sorts the rows by the column of a button: numbers descending first, text ascending; the other way if they are sorted so already. */
function sortBy(table: HTMLTableElement, button: HTMLButtonElement): void {
  const heading = button.closest("th");
  const [body] = table.tBodies;
  if (heading === null || body === undefined) return;
  const isNumeric = heading.classList.contains("number");
  const first = isNumeric ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? (isNumeric ? "ascending" : "descending") : first;
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const at = heading.cellIndex;
  const sign = order === "ascending" ? 1 : -1;
  const keyed = Array.from(body.rows, (row) => {
    const text = row.cells[at]?.textContent?.trim() ?? "";
    return { row, text, value: Number.parseFloat(text.replaceAll(",", "")) };
  });
  keyed.sort((a, b) => {
    if (!isNumeric) return sign * collator.compare(a.text, b.text);
    // Missing values come last.
    if (Number.isNaN(a.value) || Number.isNaN(b.value)) return Number(Number.isNaN(a.value)) - Number(Number.isNaN(b.value));
    return sign * (a.value - b.value);
  });
  body.append(...keyed.map(({ row }) => row));
}

for (const table of document.querySelectorAll<HTMLTableElement>("table.sortable")) {
  for (const button of table.querySelectorAll<HTMLButtonElement>("thead button"))
    button.addEventListener("click", () => sortBy(table, button));
}

/** Number of rows that are shown until all are requested: the browser does not lay out the others. */
const SHOWN_ROWS = 100;

/** Shows the first of the rows that contain all words of the search field in their first two cells. */
function search(part: HTMLElement, showsAll: boolean): void {
  const [input, rows, status, button] = [
    part.querySelector("input"),
    part.querySelector("tbody")?.rows,
    part.querySelector('[role="status"]'),
    part.querySelector<HTMLButtonElement>("button.all"),
  ];
  if (input === null || rows === undefined || status === null || button === null) return;
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of rows) {
    const [number, name] = row.cells;
    const text = `${number?.textContent} ${name?.textContent}`.toLowerCase();
    const isFound = words.every((word) => text.includes(word));
    if (isFound) found++;
    row.hidden = !isFound || !(showsAll || found <= SHOWN_ROWS);
  }
  const [shown, all] = [showsAll ? found : Math.min(found, SHOWN_ROWS), found].map((count) => count.toLocaleString("en"));
  status.textContent = `${shown} of ${all} ${words.length === 0 ? "classes" : "classes found"}`;
  button.hidden = showsAll || found <= SHOWN_ROWS;
}

for (const part of document.querySelectorAll<HTMLElement>(".searchable")) {
  let showsAll = false;
  const update = (): void => search(part, showsAll);
  part.querySelector("input")?.addEventListener("input", update);
  part.querySelector("thead")?.addEventListener("click", update);
  part.querySelector("button.all")?.addEventListener("click", () => {
    showsAll = true;
    update();
    // The button, which had the focus, is gone.
    part.querySelector<HTMLElement>(".scroll")?.focus();
  });
}
