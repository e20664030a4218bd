import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { program } from "../../src/cli.js";
import { loadConfig } from "../../src/config/load.js";
import { modelSizes } from "../../src/model/sizes.js";
import { manPage } from "./man.js";
import { renderNetwork } from "./network-svg.js";
import { referencePages } from "./reference.js";
import { renderTerminal, selectLines } from "./run-svg.js";

// Writes the generated pages, the help that the tests expect, the images of the network and of the demo, and the demo's output in the README; run from the
// repository. scripts/docs/record.sh records docs/run.txt.
for (const [path, text] of Object.entries(referencePages())) writeFileSync(path, text);
writeFileSync("docs/nextvlad.1", manPage());
for (const command of [program, ...program.commands]) {
  // In a process of its own without a terminal, as in test/cli.test.ts, so that lines are as long as there.
  const { stdout } = spawnSync(process.execPath, ["dist/src/nextvlad.cjs", ...(command === program ? [] : [command.name()]), "--help"], {
    encoding: "utf8",
  });
  writeFileSync(`test/commands/help/${command.name()}.txt`, stdout);
}
const { MODEL } = await loadConfig("configs/nextvlad.yaml");
writeFileSync("docs/nextvlad.svg", renderNetwork(modelSizes(MODEL), MODEL.max_frames));
const recording = readFileSync("docs/run.txt", "utf8");
writeFileSync("docs/run.svg", renderTerminal(selectLines(recording), "npm run demo"));
const summary = recording.slice(recording.indexOf("demo: done"));
const readme = readFileSync("README.md", "utf8");
writeFileSync(
  "README.md",
  readme.replace(/(<!-- demo output: begin -->\n```\n).*?(```\n<!-- demo output: end -->)/s, (_, begin, end) => begin + summary + end),
);
