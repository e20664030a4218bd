import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { FileReader } from "../../../src/formats/containers/file-reader.js";
import { looksLikeTar, readTar } from "../../../src/formats/containers/tar.js";
import { temporaryFolder } from "../../helpers/files.js";
import { failsWith } from "../../helpers/shards.js";

/** Reads all files of a tar, in pieces of 1,000 bytes. */
async function readAll(path: string): Promise<[string, string][]> {
  const bytes = await FileReader.open(path);
  const files: [string, string][] = [];
  try {
    for await (const entry of readTar(bytes)) {
      const content = Buffer.alloc(entry.sizeBytes);
      for (let at = 0; at < content.length; at += 1000) await entry.read(content.subarray(at, at + 1000));
      files.push([entry.name, content.toString("latin1")]);
    }
  } finally {
    await bytes.close();
  }
  return files;
}

const hasPython = spawnSync("python3", ["--version"]).status === 0;

/** Writes a member for each [name, content] with Python's tarfile; null is a directory, and "-> NAME" a symbolic link. */
const WRITE = `
import io, json, sys, tarfile
path, form, members = json.load(sys.stdin)
with tarfile.open(path, "w:gz" if path.endswith("gz") else "w", format=getattr(tarfile, form)) as tar:
    for name, content in members:
        info = tarfile.TarInfo(name)
        if content is None:
            info.type = tarfile.DIRTYPE
        elif content.startswith("-> "):
            info.type, info.linkname, content = tarfile.SYMTYPE, content[3:], ""
        data = (content or "").encode("latin1")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
`;

function writeTar(path: string, form: string, members: readonly (readonly [string, string | null])[]): void {
  const python = spawnSync("python3", ["-c", WRITE], { input: JSON.stringify([path, form, members]), encoding: "utf8" });
  assert.equal(python.status, 0, python.stderr);
}

const LONG = `${"folder/".repeat(30)}name`;
const MEMBERS = [
  ["d/", null],
  ["d/@LR_DECAY_COUNTER@", "x".repeat(512)],
  ["d/empty", ""],
  ["d/batch_norm_0.w_0", "\u00ff\0".repeat(1700)],
  ["d/link", "-> ../../etc/passwd"],
  [LONG, "long"],
] as const;
const FILES = MEMBERS.filter(([name, content]) => content !== null && name !== "d/link");

describe("reads what Python's tarfile writes", { skip: !hasPython && "python3 is missing" }, () => {
  for (const form of ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"]) {
    for (const suffix of ["tar", "tar.gz"]) {
      test(`${form}, .${suffix}`, async (t) => {
        const path = join(temporaryFolder(t), `x.${suffix}`);
        writeTar(path, form, [...MEMBERS, ...(form === "USTAR_FORMAT" ? [] : [["é".repeat(150), "utf-8"] as const])]);
        const expected = form === "USTAR_FORMAT" ? FILES : [...FILES, ["é".repeat(150), "utf-8"]];
        assert.deepEqual(await readAll(path), expected);
      });
    }
  }

  test("rejects unsafe paths in every tar format", async (t) => {
    const path = join(temporaryFolder(t), "x.tar");
    for (const name of ["../evil", "/etc/evil", "d/../../evil", `${"d/".repeat(80)}../x`]) {
      for (const form of ["GNU_FORMAT", "PAX_FORMAT"]) {
        writeTar(path, form, [
          ["d/a", "a"],
          [name, "b"],
        ]);
        const error = await failsWith(readAll(path), "BAD_FORMAT", { file: path });
        assert.match(error.message, /unsafe path/);
      }
    }
  });

  test("rejects a truncated or corrupt tar, unless only the end marker is missing", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, "x.tar");
    writeTar(path, "PAX_FORMAT", MEMBERS);
    const file = await FileReader.open(path);
    const whole = Buffer.from(await file.readAll());
    await file.close();
    assert.ok(looksLikeTar(whole));
    const corrupt = join(folder, "y.tar");
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: whole.length }),
        fc.array(fc.tuple(fc.nat({ max: 9000 }), fc.nat({ max: 255 })), { maxLength: 3 }),
        fc.boolean(),
        async (length, edits, gzip) => {
          const bytes = Buffer.from(whole.subarray(0, length));
          for (const [at, byte] of edits) if (at < bytes.length) bytes[at] = byte;
          writeFileSync(corrupt, gzip ? gzipSync(bytes) : bytes);
          await readAll(corrupt).catch((error: unknown) => assert.ok(error instanceof NextvladError, String(error)));
        },
      ),
      { numRuns: 300 },
    );
    // Up to the last byte of the last entry; the end marker and the padding are zeros.
    const end = whole.findLastIndex((byte) => byte !== 0) + 1;
    for (let length = 0; length < end; length += 512) {
      writeFileSync(corrupt, whole.subarray(0, length));
      assert.match((await failsWith(readAll(corrupt), "BAD_FORMAT")).message, /it is truncated|exceeds the file/);
    }
  });
});

test("rejects an entry of 2^60 bytes at its header", async (t) => {
  const header = Buffer.alloc(512);
  header.write("hidden1_fc_weights");
  header[124] = 0x80;
  header.writeBigUInt64BE(2n ** 60n, 128);
  header.write("        ", 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  for (const [name, bytes] of [
    ["x.tar", header],
    ["x.tar.gz", gzipSync(header)],
  ] as const) {
    const path = join(temporaryFolder(t), name);
    writeFileSync(path, bytes);
    const error = await failsWith(readAll(path), "BAD_FORMAT", { file: path, byteOffset: 0 });
    assert.match(error.message, /invalid entry size|entry of 1152921504606847000 bytes/);
  }
});

test("rejects a tar with more than 10,000 entries", async (t) => {
  const header = Buffer.alloc(512);
  header.write("x");
  header.write("00000000000", 124);
  header.write("0", 156);
  header.write("        ", 148);
  header.write(
    `${header
      .reduce((sum, byte) => sum + byte)
      .toString(8)
      .padStart(6, "0")}\0`,
    148,
  );
  const tar = (entries: number): Buffer => gzipSync(Buffer.concat([...Array(entries).fill(header), Buffer.alloc(1024)]), { level: 1 });
  const path = join(temporaryFolder(t), "x.tar.gz");
  writeFileSync(path, tar(10_000));
  assert.equal((await readAll(path)).length, 10_000);
  writeFileSync(path, tar(10_001));
  const error = await failsWith(readAll(path), "BAD_FORMAT", { file: path, byteOffset: 10_000 * 512 });
  assert.match(error.message, /too many entries in the tar file \(expected at most 10000, found more\)/);
});
