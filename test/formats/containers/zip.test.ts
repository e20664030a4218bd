import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeZip, type ZipMember } from "../../../src/formats/containers/zip.js";
import { needsPython, runPython } from "../../helpers/python.js";

/** Prints [name, content in hex, method, date] of each member; `testzip` checks every checksum. */
const READ_ZIP = `
import io, json, sys, zipfile

with zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())) as archive:
    assert archive.testzip() is None
    found = [[member.filename, archive.read(member).hex(), member.compress_type, list(member.date_time)] for member in archive.infolist()]
json.dump(found, sys.stdout)
`;

async function encode(members: readonly ZipMember[]): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeZip(members)) pieces.push(piece);
  return Buffer.concat(pieces);
}

test("Python's zipfile reads every member, with its checksum", needsPython, async () => {
  const name = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter((text) => !/[\0/\\]/.test(text));
  const members = fc.uniqueArray(fc.record({ name, parts: fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 3 }) }), {
    selector: (member) => member.name,
    maxLength: 6,
  });
  for (const sample of [[], ...fc.sample(members, { numRuns: 12, seed: 5 })]) {
    assert.deepEqual(
      runPython(READ_ZIP, [], await encode(sample)),
      sample.map((member) => [member.name, Buffer.concat(member.parts).toString("hex"), 0, [1980, 1, 1, 0, 0, 0]]),
    );
  }
});

test("parts may be views of wider types, and are not copied", async () => {
  const floats = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeZip([{ name: "a", parts: [floats] }])) pieces.push(piece);
  assert.equal(pieces[1]?.buffer, floats.buffer);
  assert.deepEqual(Buffer.from(pieces[1] as Uint8Array), Buffer.from(floats.buffer, 4, 8));
});

test("rejects more members and bytes than fit without ZIP64", async () => {
  const many = Array.from({ length: 2 ** 16 }, (_, i) => ({ name: String(i), parts: [] }));
  await assert.rejects(encode(many), { code: "BAD_FORMAT", message: /found \d+ bytes, 65536 members/ });
  const huge = { byteLength: 2 ** 32 - 100 } as unknown as Uint8Array;
  await assert.rejects(encode([{ name: "huge", parts: [huge] }]), { code: "BAD_FORMAT", message: /less than 4 GiB/ });
});
