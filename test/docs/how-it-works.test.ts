import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { renderNetwork } from "../../scripts/docs/network-svg.js";
import { loadConfig } from "../../src/config/load.js";
import { parameterTable } from "../../src/model/network.js";
import { countParameters } from "../../src/model/parameters.js";
import { modelSizes } from "../../src/model/sizes.js";
import { repository } from "../helpers/nextvlad.js";
import { readPage, tableRows } from "./pages.js";

const PAGE = "docs/how-it-works.md";
const { MODEL } = await loadConfig(join(repository, "configs/nextvlad.yaml"));
const sizes = modelSizes(MODEL);
const table = parameterTable(sizes);
const plain = (cell: string | undefined): string => (cell ?? "").replaceAll("`", "");

test("the picture is that of the full-size model", () => {
  assert.equal(readPage("docs/nextvlad.svg"), renderNetwork(sizes, MODEL.max_frames));
});

describe("the page", () => {
  test("lists all parameters with their shapes", () => {
    const listed = tableRows(PAGE, "parameter").flatMap(([name, ...shapes]) =>
      shapes.length === 1 ? [[plain(name), shapes[0]]] : shapes.map((shape, i) => [`${["video", "audio"][i]}_${plain(name)}`, shape]),
    );
    const expected = table.filter(({ name }) => !name.startsWith("batch_norm_")).map(({ name, shape }) => [name, `[${shape.join(", ")}]`]);
    assert.deepEqual(listed.map(String).sort(), expected.map(String).sort());
  });

  test("states the numbers of values", () => {
    const text = readPage(PAGE);
    const hidden = table.filter(({ name }) => name === "hidden1_fc_weights");
    assert.ok(text.includes(`${countParameters(table).trained.toLocaleString("en-US")} values are trained`));
    assert.ok(text.includes(`${countParameters(hidden).all.toLocaleString("en-US")} of them`));
  });

  test("names functions that its source files define", () => {
    const sources = tableRows(PAGE, "step").flatMap(([, , , source = ""]) => {
      const [, path = ""] = /\]\(\.\.\/(src\/[^)]+)\)/.exec(source) ?? [];
      return Array.from(source.matchAll(/`(\w+)`/g), ([, name = ""]) => ({ path, name }));
    });
    assert.equal(sources.length, 5);
    for (const { path, name } of sources) assert.match(readPage(path), new RegExp(`\\b${name}\\b`));
  });
});
