import { descriptorsLength } from "../../src/model/network.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";

const WIDTH = 960;
const COLUMN = 440;
const GAP = 20;
const MARGIN = 30;
const LINE = 18;
const ARROW = 24;

/** Colors of both color schemes, so that the image is readable on any page. */
const STYLE = `
svg { --page: #ffffff; --box: #f3f5f8; --rgb: #e3effc; --audio: #fcefdc; --line: #8a94a3; --text: #1d232c; --shape: #0b5cad }
@media (prefers-color-scheme: dark) {
  svg { --page: #16181d; --box: #23262d; --rgb: #1b2f45; --audio: #40301a; --line: #7d8590; --text: #e4e7ec; --shape: #8cc4ff }
}
text { fill: var(--text); font: 13px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; text-anchor: middle }
.title { font-weight: 600 }
.shape { fill: var(--shape); font-family: ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace }
path { stroke: var(--line); fill: none }
#head path { fill: var(--line); stroke: none }
`;

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

type Fill = "rgb" | "audio" | "box";

/** What a box shows: the name of a step, its formula, and the shape of its result. */
interface Step {
  readonly title: string;
  readonly formulas: readonly string[];
  readonly shape: string;
}

const heightOf = ({ formulas }: Step): number => (formulas.length + 2) * LINE + 12;

function draw(step: Step, box: Box, fill: Fill): string {
  const lines = [
    { text: step.title, kind: "title" },
    ...step.formulas.map((text) => ({ text, kind: "formula" })),
    { text: step.shape, kind: "shape" },
  ];
  const texts = lines.map(({ text, kind }, i) => {
    const y = box.y + 6 + (i + 0.72) * LINE;
    return `<text class="${kind}" x="${box.x + box.width / 2}" y="${y.toFixed(1)}">${text}</text>`;
  });
  const { x, y, width, height } = box;
  return [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="6" style="fill: var(--${fill}); stroke: var(--line)"/>`,
    ...texts,
  ].join("\n");
}

/** An arrow from the bottom of a box to the top of another one, which may be wider or narrower. */
function arrow(from: Box, to: Box): string {
  const start = from.x + from.width / 2;
  const end = to.x + to.width / 2;
  const x1 = Math.min(Math.max(start, to.x + 10), to.x + to.width - 10);
  const x2 = Math.min(Math.max(end, from.x + 10), from.x + from.width - 10);
  const x = to.width > from.width ? x1 : x2;
  return `<path d="M${x} ${from.y + from.height}V${to.y - 1}" marker-end="url(#head)"/>`;
}

const number = (value: number): string => value.toLocaleString("en-US");
const shape = (...sizes: readonly (number | string)[]): string =>
  `[${sizes.map((size) => (typeof size === "number" ? number(size) : size)).join(", ")}]`;

/** Draws one modality below `top`; returns the elements and its last box. */
function drawModality(
  modality: ModalitySizes,
  frames: number,
  left: number,
  top: number,
): { readonly parts: readonly string[]; readonly last: Box } {
  const { name, features: F, expanded: D, groups: G, clusters: K, groupSize: P } = modality;
  const input: Step = { title: `${name}: frames`, formulas: ["bytes of the shard, dequantized to x"], shape: shape(frames, F) };
  const expand: Step = { title: "expand", formulas: ["x1 = x W + b"], shape: shape(frames, D) };
  const branches: readonly Step[] = [
    { title: "attention", formulas: ["sigmoid of", "x1 Wa + ba"], shape: shape(frames, G) },
    { title: "soft assignment", formulas: ["softmax of", "BN(x1 Wc)"], shape: shape(frames, G, K) },
    { title: "groups", formulas: ["x1, cut into", `${G} groups`], shape: shape(frames, G, P) },
  ];
  const aggregate: Step = {
    title: "aggregate over frames and groups",
    formulas: ["a = attention · soft assignment", "v_k = Σ a_tgk (x1_tg − c_k)"],
    shape: shape(P, K),
  };
  const normalize: Step = { title: "normalize", formulas: ["BN(v_k / |v_k|), flattened"], shape: shape(P * K) };

  const parts: string[] = [];
  const place = (step: Step, y: number, x = left, width = COLUMN): Box => {
    const box = { x, y, width, height: heightOf(step) };
    parts.push(draw(step, box, name));
    return box;
  };
  const below = (box: Box): number => box.y + box.height + ARROW;
  const inputBox = place(input, top);
  const expandBox = place(expand, below(inputBox));
  const width = (COLUMN - 2 * 10) / 3;
  const branchBoxes = branches.map((step, i) => place(step, below(expandBox), left + i * (width + 10), width));
  const aggregateBox = place(aggregate, below(branchBoxes[0] as Box));
  const last = place(normalize, below(aggregateBox));
  const arrows = [
    arrow(inputBox, expandBox),
    ...branchBoxes.flatMap((box) => [arrow(expandBox, box), arrow(box, aggregateBox)]),
    arrow(aggregateBox, last),
  ];
  return { parts: [...parts, ...arrows], last };
}

/** Draws the network as an SVG image, with the shape of each step's result for one video of that many frames. */
export function renderNetwork(sizes: ModelSizes, frames: number): string {
  const columns = modalitiesOf(sizes).map((modality, i) => drawModality(modality, frames, MARGIN + i * (COLUMN + GAP), MARGIN));
  const parts = columns.flatMap((column) => column.parts);
  const steps: readonly Step[] = [
    {
      title: "concatenate, drop out, reduce",
      formulas: ["h = BN(dropout(rgb, audio) W1)"],
      shape: `${shape(descriptorsLength(sizes))} → ${shape(sizes.hidden)}`,
    },
    {
      title: "context gating",
      formulas: ["h sigmoid(relu(BN(h W2)) W3)"],
      shape: `${shape(sizes.hidden)} → ${shape(sizes.bottleneck)} → ${shape(sizes.hidden)}`,
    },
    { title: "classify", formulas: ["sigmoid(h W4 + b4)"], shape: shape(sizes.classes) },
  ];
  let above = columns.map(({ last }) => last);
  for (const step of steps) {
    const y = Math.max(...above.map((box) => box.y + box.height)) + ARROW;
    const box = { x: MARGIN + COLUMN / 2, y, width: COLUMN + GAP, height: heightOf(step) };
    parts.push(draw(step, box, "box"), ...above.map((from) => arrow(from, box)));
    above = [box];
  }
  const height = Math.max(...above.map((box) => box.y + box.height)) + MARGIN;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="The layers of NeXtVLAD with their shapes">
<style>${STYLE}</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8Z"/></marker></defs>
<rect width="${WIDTH}" height="${height}" rx="8" style="fill: var(--page)"/>
${parts.join("\n")}
</svg>
`;
}
