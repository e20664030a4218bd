import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { temporaryFolder } from "../helpers/files.js";
import { goldenFolder } from "../helpers/golden.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { writeVariables } from "../helpers/paddle-files.js";

const params = (): Buffer => gunzipSync(readFileSync(fileURLToPath(new URL("NEXTVLAD.pdparams.gz", goldenFolder("resume")))));

/** Returns a ustar header and its content, padded. */
function member(name: string, content: Buffer): Buffer {
  const header = Buffer.alloc(512);
  header.write(name);
  header.write(`0000644\0${"0000000\0".repeat(2)}${content.length.toString(8).padStart(11, "0")}\0${"0".repeat(11)}\0        0`, 100);
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

const variable = (): Buffer => readFileSync(fileURLToPath(new URL("dir/b", goldenFolder("formats/paddle"))));
const tarOf = (...members: Buffer[]): Buffer => Buffer.concat([...members, Buffer.alloc(1024)]);

/** Each case writes weights to a folder and returns their path. */
const cases: Readonly<Record<string, { make: (folder: string) => string; message: RegExp }>> = {
  "a pickle that runs a program": {
    make: (folder) => file(folder, "x.pdparams", Buffer.from(`cposix\nsystem\n(S'touch ${join(folder, "proof")}'\ntR.`, "latin1")),
    message: /x\.pdparams, byte 0: unsafe pickle: it refers to the Python object "posix\.system"/,
  },
  "a pickle that runs a program after valid arrays": {
    make: (folder) => {
      const honest = params();
      // Replaces the last SETITEMS and STOP by one more key, whose value is the result of a call.
      const call = `X\x01\0\0\0kcos\nsystem\n(X\x01\0\0\0xtRu.`;
      return file(folder, "x.pdparams", Buffer.concat([honest.subarray(0, -2), Buffer.from(call, "latin1")]));
    },
    message: /x\.pdparams, byte \d{7}: unsafe pickle: it refers to the Python object "os\.system"/,
  },
  "a tar with a name above its folder": {
    make: (folder) => file(folder, "x.tar", tarOf(member("v/logits_clf_bias", variable()), member("../proof", Buffer.from("x")))),
    message: /x\.tar, byte 1024: unsafe path in the tar file: "\.\.\/proof"/,
  },
  "a gzipped tar with an absolute name": {
    make: (folder) => file(folder, "x.tar.gz", gzipSync(tarOf(member(join(folder, "proof"), variable())))),
    message: /x\.tar\.gz, byte 0: unsafe path in the tar file: "\/.*\/proof"/,
  },
  "a variable that claims 2^60 bytes": {
    make: (folder) => {
      const dims = { name: "logits_clf_bias", dtype: "f4", shape: [2 ** 58], bytes: new Uint8Array(12) };
      writeVariables(join(folder, "v"), [dims]);
      return join(folder, "v");
    },
    message: /v\/logits_clf_bias, byte \d+: .*expected 1152921504606847000 bytes of data, found 12/,
  },
  "a truncated .pdparams": {
    make: (folder) => file(folder, "x.pdparams", params().subarray(0, 3_000_000)),
    message: /x\.pdparams, byte \d+: the pickle is truncated or corrupt: expected \d+ more bytes, found \d+/,
  },
  "a truncated .pdparams.gz": {
    make: (folder) => file(folder, "x.pdparams.gz", gzipSync(params()).subarray(0, 300_000)),
    message: /x\.pdparams\.gz, byte \d+: the gzip data is corrupt or truncated/,
  },
};

function file(folder: string, name: string, content: Buffer): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

describe("malicious weights are rejected within a second, and nothing is written or executed", () => {
  for (const [name, { make, message }] of Object.entries(cases)) {
    test(name, async (t) => {
      const folder = temporaryFolder(t);
      const weights = make(folder);
      const before = readdirSync(folder);
      for (const command of [
        ["infer", "--weights", weights],
        ["train", "--pretrain", weights, "--config", "configs/digits.yaml"],
      ]) {
        const start = performance.now();
        const { exitCode, stderr, error } = await runNextvlad([...command, "--save-dir", join(folder, "out")]);
        const tookMs = performance.now() - start;
        assert.equal(exitCode, 1, stderr);
        assert.match(error, message);
        assert.equal(stderr.match(/^\S/gm)?.length, 1, "one error, without a log");
        // Takes a second on an idle machine, but other tests run in parallel.
        assert.ok(tookMs < 4000, `it took ${Math.round(tookMs)} ms`);
        t.diagnostic(`${command[0]}: ${Math.round(tookMs)} ms`);
        assert.deepEqual(readdirSync(folder), before);
      }
    });
  }
});
