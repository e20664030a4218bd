import { readFileSync, writeFileSync } from "node:fs";
import { referencePages } from "./reference.js";
import { renderTerminal, selectLines } from "./run-svg.js";

// Writes the generated pages, the image of the demo, and the demo's output in the README; run from the repository. scripts/docs/record.sh records docs/run.txt.
for (const [path, text] of Object.entries(referencePages())) writeFileSync(path, text);
const recording = readFileSync("docs/run.txt", "utf8");
writeFileSync("docs/run.svg", renderTerminal(selectLines(recording), "npm run demo"));
const summary = recording.slice(recording.indexOf("demo: done"));
const readme = readFileSync("README.md", "utf8");
writeFileSync(
  "README.md",
  readme.replace(/(<!-- demo output: begin -->\n```\n).*?(```\n<!-- demo output: end -->)/s, (_, begin, end) => begin + summary + end),
);
