import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { renderTerminal, selectLines } from "../../scripts/docs/run-svg.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { writeAudioSet } from "../helpers/audioset.js";
import { repository, runNextvlad } from "../helpers/nextvlad.js";
import { encodeNpy } from "../helpers/npy.js";
import { goldenData, randomVideo } from "../helpers/shards.js";
import { codeBlocks, PAGES, readPage, tableRows } from "./pages.js";
import { runBlock } from "./shell.js";

/** Pages whose commands train in the default folder, so they start without snapshots. */
const TRAIN_FROM_SCRATCH: ReadonlySet<string> = new Set([
  ...["README.md", "docs/install.md", "docs/gpu.md", "docs/coming-from-paddlevideo.md", "docs/commands.md"],
]);
/** What the downloads of a page would write, for pages whose data are not those of the others. */
const DOWNLOADS: Readonly<Record<string, (folder: string) => void>> = {
  "docs/coming-from-paddlevideo.md": (folder) => {
    const youtube8m = join(folder, "data/dataset/youtube8m");
    const eigenvalues = readFileSync(join(youtube8m, "yt8m_pca/eigenvals.npy"));
    // The page makes its own lists; those of the base are shared by hard links.
    rmSync(youtube8m, { recursive: true });
    for (const [split, name] of Object.entries({ train: "train", val: "validate" })) {
      mkdirSync(join(youtube8m, "tf", split), { recursive: true });
      cpSync(join(folder, `yt8m/${name}00.tfrecord`), join(youtube8m, "tf", split, `${name}00.tfrecord`));
    }
    mkdirSync(join(youtube8m, "yt8m_pca"));
    writeFileSync(join(youtube8m, "yt8m_pca/eigenvals.npy"), eigenvalues);
  },
  "docs/audioset.md": (folder) => {
    writeAudioSet(join(folder, "data/audioset/audioset_v1_embeddings"));
    const names = Array.from({ length: 527 }, (_, c) => `${c},/m/${c},"Sound ${c}, such as ${c}"\n`).join("");
    writeFileSync(join(folder, "data/audioset/class_labels_indices.csv"), `index,mid,display_name\n${names}`);
  },
  "docs/segments.md": (folder) => {
    mkdirSync(join(folder, "yt8m3"));
    const ratings = {
      segment_labels: [3, 5, 7],
      segment_start_times: [0, 5, 5],
      segment_end_times: [5, 10, 10],
      segment_scores: [1, 1, 0],
    };
    const record = (number: number): Uint8Array => {
      const { id, rgb, audio, frames, labels } = randomVideo(number, [1024, 128]);
      const longer = (bytes: Uint8Array): Uint8Array => Buffer.concat(Array.from({ length: 9 }, () => bytes));
      const lists = [
        { name: "rgb", frameBytes: 1024, data: longer(rgb) },
        { name: "audio", frameBytes: 128, data: longer(audio) },
      ].map((list) => ({ ...list, data: list.data.subarray(0, Math.max(9, frames) * list.frameBytes) }));
      return encodeTfRecord(encodeSequenceExample({ context: { id: Buffer.from(id), labels, ...ratings }, frameLists: lists }));
    };
    const shard = Buffer.concat(Array.from({ length: 20 }, (_, number) => record(number)));
    for (const name of ["validate00", "validate10", "test00"]) writeFileSync(join(folder, `yt8m3/${name}.tfrecord`), shard);
    writeFileSync(join(folder, "yt8m3/segment_label_ids.csv"), "Index\n3\n5\n7\n");
  },
  "docs/mediapipe.md": (folder) => {
    const { examples } = JSON.parse(readFileSync(goldenData("float_features.json"), "utf8")) as { examples: Record<string, string> };
    const exampleOf = (name: string): Uint8Array => Buffer.from(examples[name] as string, "base64");
    mkdirSync(join(folder, "features"));
    writeFileSync(join(folder, "features/cat.pb"), exampleOf("extracted by MediaPipe"));
    // What the page's program writes.
    writeFileSync(join(folder, "labeled.tfrecord"), encodeTfRecord(exampleOf("extracted by MediaPipe, labeled")));
    const classes = Array.from({ length: 10 }, (_, c) => `${c},Class ${c}\n`).join("");
    writeFileSync(join(folder, "vocabulary.csv"), `Index,Name\n${classes}`);
  },
};
/** Pages with a test of their own. */
const TESTED_ELSEWHERE: ReadonlySet<string> = new Set(["docs/library.md", "docs/own-features.md"]);

const python = process.env.NEXTVLAD_PYTHON ?? "python3";

/** Small layers that fit the digits' and YouTube-8M's features. */
const SMALL_MODEL = ["MODEL.cluster_size=4", "MODEL.hidden_size=32", "MODEL.expansion=1", "MODEL.max_frames=12"];

/** Returns the arguments of a command with which it takes less than a second: fewer videos and steps, smaller layers, and no GPU. */
function smaller(args: readonly string[]): readonly string[] {
  const [command] = args;
  const shown = args.join(" ");
  const onCpu = args.map((arg, i) => (arg === "tf32" ? "float32" : arg === "True" && args[i - 1] === "--use-gpu" ? "auto" : arg));
  if (command === "digits") return [...onCpu, "--train-videos", "64", "--validate-videos", "20", "--overwrite"];
  const settings = /^(train|eval|predict|infer) .*--config/.test(shown) ? [...SMALL_MODEL] : [];
  if (command === "train") {
    // 50 steps take 4 epochs of 16 batches of 4 videos.
    if (shown.includes("audioset.yaml")) settings.push("TRAIN.batch_size=32");
    else if (shown.includes("max_iter=50")) settings.push("TRAIN.epoch=4", "TRAIN.batch_size=4");
    else settings.push(`TRAIN.epoch=${shown.includes("--resume") ? 2 : 1}`, "TRAIN.batch_size=32", "VALID.batch_size=32");
  }
  return [...onCpu, ...settings.flatMap((setting) => ["--set", setting])];
}

/** A folder with the files that the pages name: data, configs, a trained model, Paddle's files. */
let base: string;
/** Standard output and standard error of the commands that made it. */
let printed = "";

async function nextvlad(...args: readonly string[]): Promise<void> {
  const ended = await runNextvlad(smaller(args), { cwd: base });
  assert.equal(ended.exitCode, 0, ended.stderr);
  printed += ended.stdout + ended.stderr;
}

before(async () => {
  base = mkdtempSync(join(tmpdir(), "nextvlad-docs-"));
  symlinkSync(join(repository, "configs"), join(base, "configs"));
  mkdirSync(join(base, "node_modules"));
  symlinkSync(repository, join(base, "node_modules/nextvlad"));
  await nextvlad("digits", "--out", "data/digits");
  await nextvlad("train", "--config", "configs/digits.yaml");
  await nextvlad("eval", "--weights", "data/checkpoints/best", "--filelist", "data/digits/validate.list");
  await nextvlad("infer", "--weights", "data/checkpoints/best", "--filelist", "data/digits/validate.list");
  symlinkSync("data", join(base, "demo"));

  // YouTube-8M: the digits have its feature sizes.
  const eigenvalues = encodeNpy(
    Float32Array.from({ length: 1024 }, (_, i) => 2000 - i),
    [1024, 1],
  );
  const youtube8m = join(base, "data/dataset/youtube8m");
  mkdirSync(join(youtube8m, "yt8m_pca"), { recursive: true });
  mkdirSync(join(base, "yt8m"));
  for (const [name, split] of Object.entries({ train: "train", validate: "validate", test: "validate" }))
    cpSync(join(base, `data/digits/${split}0000.tfrecord`), join(base, `yt8m/${name}00.tfrecord`));
  for (const file of [join(base, "yt8m/eigenvals.npy"), join(youtube8m, "yt8m_pca/eigenvals.npy")]) writeFileSync(file, eigenvalues);
  for (const [list, split] of Object.entries({ train: "train", val: "validate", test: "validate", infer: "validate" }))
    writeFileSync(join(youtube8m, `${list}.list`), `yt8m/${split}00.tfrecord\n`);

  await nextvlad("export", "--weights", "data/checkpoints/best", "--format", "paddle-vars", "--out", "checkpoints/NEXTVLAD_epoch0");
  mkdirSync(join(base, "home/.paddle/weights"), { recursive: true });
  const archive = join(base, "home/.paddle/weights/nextvlad_youtube8m.tar.gz");
  assert.equal(spawnSync("tar", ["czf", archive, "-C", join(base, "checkpoints"), "NEXTVLAD_epoch0"]).status, 0);
  rmSync(join(base, "data/evaluate_results"), { recursive: true });
  rmSync(join(base, "data/predict_results"), { recursive: true });
});

after(() => rmSync(base, { recursive: true, force: true }));

describe("every code block runs:", () => {
  for (const page of PAGES.filter((each) => !TESTED_ELSEWHERE.has(each))) {
    const blocks = codeBlocks(page).filter(({ language }) => language !== "");
    if (blocks.length === 0) continue;
    test(page, async () => {
      const folder = mkdtempSync(join(tmpdir(), "nextvlad-docs-"));
      const { HOME } = process.env;
      try {
        assert.equal(spawnSync("cp", ["-al", `${base}/.`, folder]).status, 0);
        if (TRAIN_FROM_SCRATCH.has(page)) rmSync(join(folder, "data/checkpoints"), { recursive: true });
        DOWNLOADS[page]?.(folder);
        process.env.HOME = join(folder, "home");
        for (const { language, code } of blocks) {
          if (language === "sh") await runBlock(code, folder, smaller);
          else if (language === "python") runPython(code, folder);
          // See scale.test.ts.
          else if (language !== "yaml") assert.fail(`unknown language ${language}`);
        }
        for (const path of filesWritten(page)) assert.ok(existsSync(join(folder, path)), `${page} says that its commands write ${path}`);
      } finally {
        process.env.HOME = HOME;
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});

test("the pages for users of other tools list the files that their commands write", () => {
  assert.ok(filesWritten("docs/coming-from-paddlevideo.md").includes("data/predict_results/NEXTVLAD_infer_result.pkl"));
  assert.ok(filesWritten("docs/coming-from-youtube8m.md").includes("nextvlad_8g/NEXTVLAD_infer_result.csv"));
});

/** Returns the paths in the first column of a page's table of files. */
function filesWritten(page: string): readonly string[] {
  return tableRows(page, "file written").map(([path = ""]) => path.replaceAll("`", ""));
}

/** Runs Python code that uses the standard library only; checks the syntax of other code. */
function runPython(code: string, cwd: string): void {
  const needsPackages = /^import .*(numpy|onnxruntime|tensorflow)/m.test(code);
  const program = needsPackages ? `compile(${JSON.stringify(code)}, "page", "exec")` : code;
  const ended = spawnSync(python, ["-c", program], { cwd, encoding: "utf8" });
  assert.equal(ended.status, 0, `${code}\n${ended.stderr}`);
}

test("the error in docs/errors.md is what a command prints", async () => {
  const shard = readFileSync(join(base, "data/digits/validate0000.tfrecord"));
  shard[200_000] = 0x99;
  const folder = join(base, "errors");
  mkdirSync(folder);
  writeFileSync(join(folder, "validate0000.tfrecord"), shard);
  const args = ["convert", "--to", "pkl", "--filelist", "validate0000.tfrecord", "--out", "out"];
  const { stderr } = await runNextvlad(args, { cwd: folder });
  const [example] = codeBlocks("docs/errors.md").filter(({ language }) => language === "");
  assert.equal(stderr.slice(stderr.indexOf("error[")).replaceAll(`${folder}/`, ""), example?.code);
});

describe("the recorded run", () => {
  const recording = readPage("docs/run.txt");
  const shown = selectLines(recording);

  test("is what the image shows", () => {
    assert.equal(readPage("docs/run.svg"), renderTerminal(shown, "npm run demo"));
  });

  test("ends with the output in the README", () => {
    const [, inReadme = ""] = /<!-- demo output: begin -->\n```\n(.*?)```\n<!-- demo output: end -->/s.exec(readPage("README.md")) ?? [];
    assert.match(inReadme, /^demo: done/);
    assert.ok(recording.endsWith(inReadme));
  });

  test("has the form of the lines that the program prints", () => {
    const printedForms = new Set(printed.split("\n").map(formOf));
    const script = readPage("scripts/demo.sh");
    const logged = shown.filter((line) => line.includes("INFO") || /^\[(TRAIN|EVAL|INFER)\]/.test(line));
    assert.ok(logged.length >= 9, shown.join("\n"));
    for (const line of logged) assert.ok(printedForms.has(formOf(line)), `not printed: ${line}\n${printed}`);
    for (const line of shown.filter((each) => each.startsWith("demo: "))) {
      const text = line.slice("demo: ".length).replace(/\d+ s after/, "$SECONDS s after");
      assert.ok(script.includes(`log "${text}"`), line);
    }
  });
});

/** Replaces what differs between runs and machines: numbers, the time, and the processor level. */
function formOf(line: string): string {
  return line
    .replaceAll("\t", " ")
    .replace(/ at level \w+/, "")
    .replaceAll(/\d+(\.\d+)*/g, "0")
    .trimEnd();
}
