/** Lines of the recording that the image shows. */
const SHOWN: readonly RegExp[] = [
  /^\$ /,
  /^demo: (digits|train|eval|infer|done)/,
  /computing on the/,
  /\[TRAIN\] Epoch 0, iter 1?0 /,
  /\[VALID\] Epoch [05],/,
  /\[EVAL\] eval finished/,
  /\[INFER\] infer finished/,
  /^(Hit@1|PERR|GAP|MAP|loss|videos) {2,}\d/,
];

/** Returns the lines that the image shows; a line "..." stands for each run of omitted ones. */
export function selectLines(recording: string): readonly string[] {
  const selected: string[] = [];
  for (const line of recording.trimEnd().split("\n")) {
    if (SHOWN.some((pattern) => pattern.test(line))) selected.push(line.replaceAll("\t", " ").trimEnd());
    else if (line.trim() !== "" && selected.at(-1) !== ELLIPSIS) selected.push(ELLIPSIS);
  }
  return selected.at(-1) === ELLIPSIS ? selected.slice(0, -1) : selected;
}

export const ELLIPSIS = "...";

const FONT_SIZE = 13;
const CHARACTER_WIDTH = 7.83;
const LINE_HEIGHT = 19;
const PADDING = 18;
const TITLE_BAR = 34;
const COLORS = { background: "#16181d", bar: "#23262d", text: "#d5d8de", dim: "#7d8590", accent: "#7ee787", command: "#79c0ff" } as const;
const BUTTONS = ["#ff5f57", "#febc2e", "#28c840"] as const;

/** Width of the terminal; longer lines wrap. */
const COLUMNS = 118;

/** Draws lines of text in the frame of a terminal window, as an SVG image. */
export function renderTerminal(lines: readonly string[], title: string): string {
  const rows = lines.flatMap((line) => wrap(line).map((text) => ({ text, color: colorOf(line) })));
  const width = Math.ceil(COLUMNS * CHARACTER_WIDTH) + 2 * PADDING;
  const height = TITLE_BAR + rows.length * LINE_HEIGHT + 2 * PADDING - (LINE_HEIGHT - FONT_SIZE);
  const texts = rows.map(({ text, color }, i) => {
    const y = TITLE_BAR + PADDING + FONT_SIZE - 2 + i * LINE_HEIGHT;
    return `<text x="${PADDING}" y="${y}" fill="${color}">${escapeXml(text)}</text>`;
  });
  const buttons = BUTTONS.map((color, i) => `<circle cx="${PADDING + 6 + i * 20}" cy="${TITLE_BAR / 2}" r="6" fill="${color}"/>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeXml(title)}">
<rect width="${width}" height="${height}" rx="8" fill="${COLORS.background}"/>
<path d="M0 ${TITLE_BAR}V8a8 8 0 0 1 8-8H${width - 8}a8 8 0 0 1 8 8V${TITLE_BAR}Z" fill="${COLORS.bar}"/>
${buttons.join("\n")}
<text x="${width / 2}" y="${TITLE_BAR / 2 + 4}" fill="${COLORS.dim}" text-anchor="middle" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12">${escapeXml(title)}</text>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="${FONT_SIZE}" xml:space="preserve">
${texts.join("\n")}
</g>
</svg>
`;
}

function colorOf(line: string): string {
  if (line.startsWith("$ ")) return COLORS.command;
  if (line === ELLIPSIS) return COLORS.dim;
  return line.startsWith("demo: ") || line.includes("[EVAL]") ? COLORS.accent : COLORS.text;
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

function wrap(line: string): readonly string[] {
  return Array.from({ length: Math.max(1, Math.ceil(line.length / COLUMNS)) }, (_, row) => line.slice(row * COLUMNS, (row + 1) * COLUMNS));
}
