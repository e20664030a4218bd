import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { runNextvlad } from "../helpers/nextvlad.js";
import { needsPython, runPython } from "../helpers/python.js";
import { prepareRun } from "../helpers/runs.js";

let folder: string;
let config: string;
const at = (name: string): string => join(folder, name);

async function run(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

async function train(saveDir: string, ...more: string[]): Promise<void> {
  await run("train", "--config", config, "--save-dir", at(saveDir), "--valid-interval", "0", "--epoch", "1", ...more);
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "average-"));
  config = await prepareRun(folder);
  await train("run", "--epoch", "3");
});
after(() => rmSync(folder, { recursive: true, force: true }));

/**
 * Averages safetensors files with the standard library: float64 sums in the order of the files, rounded to float32. Prints whether the last file has the same
 * bytes under the same names, how many arrays it has, and its config.
 */
const CHECK = `
import json, struct, sys
def read(path):
    raw = open(path, "rb").read()
    length, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + length])
    metadata = header.pop("__metadata__", {})
    values = lambda begin, end: struct.unpack(f"<{(end - begin) // 4}f", raw[8 + length + begin:8 + length + end])
    return metadata, {name: (entry["shape"], values(*entry["data_offsets"])) for name, entry in header.items()}
*sources, (metadata, found) = map(read, sys.argv[1:])
def average(name):
    arrays = [source[name] for _, source in sources]
    assert len({json.dumps(shape) for shape, _ in arrays}) == 1
    return arrays[0][0], struct.unpack(f"<{len(arrays[0][1])}f", struct.pack(f"<{len(arrays[0][1])}f", *(sum(x) / len(x) for x in zip(*(v for _, v in arrays)))))
assert all(source.keys() == found.keys() for _, source in sources)
print(json.dumps({"same": all(average(name) == found[name] for name in found), "names": sorted(found), "config": metadata.get("nextvlad.config", "")}))`;

interface Checked {
  readonly same: boolean;
  readonly names: readonly string[];
  readonly config: string;
}

const epoch = (number: number): string => at(`run/NEXTVLAD_epoch${number}`);
const check = (out: string, ...snapshots: string[]): Checked =>
  runPython(CHECK, [...snapshots.map((path) => join(path, "weights.safetensors")), at(out)]) as Checked;

test("average writes the mean of all arrays, which eval and export read with the config of the run", needsPython, async () => {
  const out = at("new/average.safetensors");
  assert.equal(await run("average", epoch(0), epoch(1), epoch(2), "--out", out), `${out}\n`);
  assert.deepEqual(readdirSync(at("new")), ["average.safetensors"]);
  const { same, names, config } = check("new/average.safetensors", epoch(0), epoch(1), epoch(2));
  assert.ok(same);
  assert.equal(names.filter((name) => /\.w_[12]$|_mean$|_variance$/.test(name)).length > 0, true, names.join());
  assert.match(config, /cluster_size: 4/);
  assert.match(await run("eval", "--weights", out, "--save-dir", at("eval")), /^\[EVAL\] eval finished/);
  await run("export", "--weights", out, "--format", "npz", "--out", at("average.npz"));
});

test("formats may be mixed, and the config is that of the first weights that have one", needsPython, async () => {
  await run("export", "--weights", epoch(0), "--format", "npz", "--out", at("w.npz"));
  await run("export", "--weights", epoch(0), "--format", "pdparams", "--out", at("w"));
  const mixed = await runNextvlad(["average", at("w.npz"), epoch(2), at("w.pdparams"), "--out", at("mixed.safetensors")]);
  assert.equal(mixed.exitCode, 0, mixed.stderr);
  assert.match(mixed.stderr, new RegExp(`w\\.npz, .*, without a config: that of ${epoch(2)} is used\n`));
  const { same, config } = check("mixed.safetensors", epoch(0), epoch(2), epoch(0));
  assert.ok(same);
  assert.match(config, /cluster_size: 4/);
  const plain = await runNextvlad(["average", at("w.npz"), at("w.pdparams"), "--out", at("plain.safetensors")]);
  assert.match(plain.stderr, /w\.npz, .*, without a config: sizes are inferred/);
  assert.deepEqual(check("plain.safetensors", epoch(0)).config, "");
});

test("weights of other models are an error that names the arrays and shapes, and nothing is written", async () => {
  await train("classes", "--set", "MODEL.num_classes=7");
  await train("netvlad", "--model-name", "NETVLAD");
  await train("dropout", "--set", "MODEL.drop_rate=0.25");
  await train("hidden", "--set", "MODEL.hidden_drop_rate=0.25");
  const out = at("other.safetensors");
  for (const [other, message] of [
    [
      at("classes/NEXTVLAD_epoch0"),
      /classes\S+: 2 arrays do not match the model: logits_clf_\w+ is \[.*7\], expected \[.*6\].*Average only weights of the same/,
    ],
    [at("netvlad/NETVLAD_epoch0"), /netvlad\S+, MODEL\.name: these weights are of another model \(expected NEXTVLAD, found NETVLAD\)/],
    [
      at("dropout/NEXTVLAD_epoch0"),
      /dropout\S+, MODEL\.drop_rate: these weights were trained with another drop_rate \(expected 0\.5, found 0\.25\)/,
    ],
    [
      at("hidden/NEXTVLAD_epoch0"),
      /hidden\S+, MODEL\.hidden_drop_rate: these weights were trained with another hidden_drop_rate \(expected 0, found 0\.25\)/,
    ],
  ] as const) {
    const { exitCode, error } = await runNextvlad(["average", epoch(0), other, "--out", out]);
    assert.equal(exitCode, 1);
    assert.match(error, message);
  }
  assert.ok(!readdirSync(folder).includes("other.safetensors"));
});

test("an existing file is replaced only with --overwrite; weights and --out are required", async () => {
  const out = at("kept.safetensors");
  await run("average", epoch(0), "--out", out);
  assert.match((await runNextvlad(["average", epoch(0), epoch(1), "--out", out])).error, /kept\.safetensors: the file already exists/);
  await run("average", epoch(0), epoch(1), "--out", out, "--overwrite");
  assert.equal((await runNextvlad(["average", "--out", out])).exitCode, 2);
  assert.equal((await runNextvlad(["average", epoch(0)])).exitCode, 2);
});
