import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { expandHome, localPath, urlRemedy } from "../../src/base/paths.js";
import { buildConfig } from "../../src/config/load.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, runProgram } from "../helpers/nextvlad.js";

test("only a leading ~ is the home directory", () => {
  assert.equal(expandHome("~/a b/c"), join(homedir(), "a b/c"));
  assert.equal(expandHome("~"), homedir());
  for (const path of ["./~/x", "a/~/b", "~user/x", "x~", "/x"]) assert.equal(expandHome(path), path);
});

test("URLs are not paths", () => {
  assert.match(urlRemedy("gs://bucket/train*.tfrecord") ?? "", /gcloud storage cp.*gcsfuse/);
  assert.match(urlRemedy("S3://bucket/x") ?? "", /aws s3 cp/);
  assert.match(urlRemedy("https://host/x") ?? "", /download it/);
  assert.match(urlRemedy("hdfs://host/x") ?? "", /copy the files to a local disk/);
  assert.equal(urlRemedy("file:///data/a%20b"), "write only the path: /data/a b");
  for (const path of ["a:b", "C:/x", "/a//b", "./http://x", "{id}.npy", ""]) assert.equal(urlRemedy(path), null);
  assert.throws(() => localPath("gs://b"), {
    code: "BAD_USAGE",
    message: /^gs:\/\/b: URLs are not supported, only local files\. Copy/,
  });
});

test("paths that are not UTF-8 are errors, and nothing is created under another name", async (t) => {
  const folder = temporaryFolder(t);
  const strange = Buffer.concat([Buffer.from(join(folder, "b")), Buffer.of(0xff)]);
  mkdirSync(strange);
  const [nextvlad, node] = [compiled("nextvlad.cjs"), process.execPath];
  const digits = `"${node}" "${nextvlad}" digits --train-videos 1 --validate-videos 1 --out`;
  const name = `"$(printf '${folder}/b\\377')"`;
  for (const [command, words] of [
    [`${digits} ${name}/out`, /the path is not UTF-8\. Rename the file or directory/],
    [`cd ${name} && ${digits} out`, /the path of the working directory is not UTF-8/],
    [`HOME=${name} ${digits} '~/out'`, /the path of the home directory \(HOME\) is not UTF-8/],
  ] as const) {
    const ended = await runProgram("bash", ["-c", command]);
    assert.equal(ended.exitCode, 2, ended.stderr);
    assert.match(ended.error, words);
    assert.equal(readdirSync(folder).length, 1);
    assert.deepEqual(readdirSync(strange), []);
  }
  assert.equal(localPath("\uFFFD"), "\uFFFD");
});

test("paths in a config are treated like those on the command line", () => {
  const { MODEL, TRAIN } = buildConfig({ MODEL: { eigen_file: "~/eigenvals.npy" }, TRAIN: { filelist: "~/train.list" } }, "own.yaml");
  assert.deepEqual([MODEL.eigen_file, TRAIN.filelist], [join(homedir(), "eigenvals.npy"), join(homedir(), "train.list")]);
  assert.equal(buildConfig({ MODEL: { eigen_file: "~" } }, "own.yaml").MODEL.eigen_file, null);
  const { TEST } = buildConfig({ TEST: { filelist: ["~/a.tfrecord", "b.tfrecord"] } }, "own.yaml");
  assert.deepEqual(TEST.filelist, [join(homedir(), "a.tfrecord"), "b.tfrecord"]);
  assert.throws(() => buildConfig({ TEST: { filelist: [] } }, "own.yaml"), {
    message: /TEST\.filelist: invalid value \(expected a path, or a list of paths, found \[\]\)/,
  });
  assert.throws(() => buildConfig({ VALID: { filelist: "s3://b/val.list" } }, "own.yaml"), {
    code: "BAD_CONFIG",
    message: /^own\.yaml, VALID\.filelist: URLs are not supported, only local files \(found "s3:\/\/b\/val\.list"\)\. Copy the files/,
  });
});
