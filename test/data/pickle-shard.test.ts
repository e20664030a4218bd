import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { CorruptRecordFilter } from "../../src/data/corrupt-records.js";
import { resolveShards } from "../../src/data/file-list.js";
import { readShard } from "../../src/data/shard-reader.js";
import { writePickleShard, writeShard } from "../../src/data/shard-writer.js";
import { openStream, type StreamOptions } from "../../src/data/stream.js";
import type { Video, VideoShape } from "../../src/data/video.js";
import { type PickledDtype, pickleArray } from "../../src/formats/pickle/numpy.js";
import { encodePickledList } from "../../src/formats/pickle/pickler.js";
import type { Picklable, ReducedObject } from "../../src/formats/pickle/values.js";
import { temporaryFolder } from "../helpers/files.js";
import {
  collect,
  examined,
  failsWith,
  goldenData,
  goldenVideos,
  randomVideo,
  SMALL_SIZES,
  streamOptions,
  writeShards,
} from "../helpers/shards.js";

const SMALL: VideoShape = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: SMALL_SIZES, numClasses: 10, labels: "required" };
const FULL: VideoShape = { ...SMALL, featureSizes: [1024, 128], numClasses: 50 };

const readVideos = (path: string, shape: VideoShape): Promise<Video[]> => collect(readShard(path, shape), ({ video }) => video);

/** Runs a Python program and returns its stdout. */
function python(interpreter: string, program: string, ...args: readonly string[]): string {
  const ended = spawnSync(interpreter, ["-c", program, ...args], { encoding: "utf8", maxBuffer: 1 << 26 });
  assert.equal(ended.status, 0, ended.stderr);
  return ended.stdout;
}

const hasPython = spawnSync("python3", ["--version"]).status === 0;
/** A Python interpreter with numpy: NEXTVLAD_PYTHON, or the system's. */
const numpyPython = [process.env.NEXTVLAD_PYTHON ?? "python3"].find((path) => spawnSync(path, ["-c", "import numpy"]).status === 0);

describe("PaddleVideo's pickles, by Python 2 and 3, with keys of bytes and of text", () => {
  for (const name of ["feat_p2_bytes.pkl", "feat_p4_str.pkl", "feat_py2_style.pkl"]) {
    test(`${name} equals what numpy read`, async () => {
      assert.deepEqual(await readVideos(goldenData(name), FULL), goldenVideos());
    });
  }

  test("feat_fortran_short.pkl: in Fortran order, without the rows past nframes", async () => {
    const videos = goldenVideos("expected_fortran_short.json");
    assert.deepEqual(await readVideos(goldenData("feat_fortran_short.pkl"), FULL), videos);
    const [first, second] = await readVideos(goldenData("feat_fortran_short.pkl"), { ...FULL, maxFrames: 5 });
    assert.deepEqual([first?.frames, first?.rgb], [5, videos[0]?.rgb.subarray(0, 5 * 1024)]);
    assert.deepEqual(second, videos[1]);
  });

  test("any protocol from 0 to 5, written by this machine's Python", { skip: !hasPython && "there is no python3" }, async (t) => {
    // Works without numpy: writes the same calls as the `__reduce__` of numpy arrays.
    const program = `
import copyreg, pickle, sys
names = {}
class Array:
    def __init__(self, rows, size): self.rows, self.size = rows, size
class Dtype: pass
class Pickler(pickle._Pickler):
    dispatch = dict(pickle._Pickler.dispatch)
    def save_global(self, obj, name=None):
        module, name = names[obj]
        if self.proto >= 4:
            self.save(module); self.save(name); self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + module.encode() + b"\\n" + name.encode() + b"\\n")
        self.memoize(obj)
    def reducer_override(self, obj):
        if isinstance(obj, Array):
            data = bytes((7 * i + obj.rows) % 256 for i in range(obj.rows * obj.size))
            return reconstruct, (ndarray, (0,), b"b"), (1, (obj.rows, obj.size), Dtype(), False, data)
        if isinstance(obj, Dtype):
            return dtype, ("u1", False, True), (3, "|", None, None, None, -1, -1, 0)
        return NotImplemented
def reconstruct(): pass
def ndarray(): pass
def dtype(): pass
names.update({reconstruct: ("numpy.core.multiarray", "_reconstruct"), ndarray: ("numpy", "ndarray"), dtype: ("numpy", "dtype")})
import _codecs
names[_codecs.encode] = ("_codecs", "encode")
import builtins
names[bytes] = ("__builtin__", "bytes")
import types
Pickler.dispatch[types.FunctionType] = Pickler.save_global
Pickler.dispatch[types.BuiltinFunctionType] = Pickler.save_global
videos = [{"video": "v%d" % i, "feature": Array(2 + i, 6), "audio": Array(2 + i, 3), "label": [i, 9], "nframes": 2 + i} for i in range(3)]
for protocol in range(6):
    with open(sys.argv[1] + str(protocol), "wb") as file:
        Pickler(file, protocol).dump(videos)
`;
    const folder = temporaryFolder(t);
    python("python3", program, join(folder, "p"));
    const expected = [0, 1, 2].map((i): Video => {
      const bytes = (size: number) => new Uint8Array((2 + i) * size).map((_, at) => 7 * at + 2 + i);
      return { id: `v${i}`, frames: 2 + i, rgb: bytes(6), audio: bytes(3), labels: Int32Array.of(i, 9) };
    });
    for (const protocol of [0, 1, 2, 3, 4, 5]) {
      const file = join(folder, `p${protocol}`);
      assert.deepEqual(await readVideos(file, SMALL), expected, `protocol ${protocol}`);
      // A pickle of protocol 0 is text, but must not be read as a file list.
      assert.deepEqual(await resolveShards(file, { cwd: "/" }), [examined(file)]);
    }
  });
});

describe("forms that PaddleVideo's readers accept, written by Python 3 and numpy (scripts/golden/pickle_shards.py)", () => {
  interface Expected {
    readonly id: string;
    readonly rgb: readonly (readonly number[])[];
    readonly audio: readonly (readonly number[])[];
    readonly labels: readonly number[];
  }
  const golden = JSON.parse(readFileSync(goldenData("pickle_shards.json"), "utf8")) as {
    readonly expected: readonly Expected[];
    readonly files: Readonly<Record<string, string>>;
  };
  const written = (t: Parameters<typeof temporaryFolder>[0], name: string): string => {
    const file = join(temporaryFolder(t), "x.pkl");
    writeFileSync(file, Buffer.from(golden.files[name] as string, "base64"));
    return file;
  };

  for (const name of Object.keys(golden.files)) {
    test(name, async (t) => {
      const file = written(t, name);
      assert.deepEqual(await resolveShards(file, { cwd: "/" }), [examined(file)], "it is a shard, not a file list");
      const repeat = name.startsWith("12 times") ? 12 : 1;
      const tiled = (rows: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(Array(repeat).fill(rows.flat()).flat());
      const hasLabels = name !== "no labels" && name !== "label None";
      const videos = golden.expected.map(
        ({ id, rgb, audio, labels }): Video => ({
          id,
          frames: repeat * rgb.length,
          rgb: tiled(rgb),
          audio: tiled(audio),
          labels: Int32Array.from(hasLabels ? labels : []),
        }),
      );
      const shape: VideoShape = { ...SMALL, labels: hasLabels ? "required" : "optional" };
      assert.deepEqual(await readVideos(file, shape), name.startsWith("one dict") ? videos.slice(0, 1) : videos);
      const cut = await readVideos(file, { ...shape, maxFrames: 2 });
      assert.deepEqual([cut[0]?.frames, cut[0]?.rgb], [2, videos[0]?.rgb.subarray(0, 12)]);
    });
  }

  test("are an error without labels if these are required", async (t) => {
    const file = written(t, "no labels");
    const { message } = await failsWith(readVideos(file, SMALL), "BAD_LABELS", { file, record: 0, video: "first" });
    assert.match(message, /the video has no labels, and training and evaluation need them/);
  });
});

describe("a written pickle", () => {
  test("is read back: IDs, frames, bytes and labels, also with one feature only", async (t) => {
    const file = join(temporaryFolder(t), "x.pkl");
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(1e6), { maxLength: 6 }), fc.constantFrom("both", "rgb", "audio"), async (numbers, kept) => {
        const none = new Uint8Array(0);
        const videos = numbers.map((number) => {
          const video = { ...randomVideo(number), id: `vidéo ${number}` };
          return { ...video, rgb: kept === "audio" ? none : video.rgb, audio: kept === "rgb" ? none : video.audio };
        });
        const featureSizes = [kept === "audio" ? 0 : 6, kept === "rgb" ? 0 : 3] as const;
        await writePickleShard(file, videos, 300);
        assert.deepEqual(await readVideos(file, { ...SMALL, featureSizes }), videos);
        assert.deepEqual(await readVideos(file, { ...SMALL, featureSizes: [null, null] }), videos);
      }),
      { numRuns: 40 },
    );
  });

  test("has all frames; nframes is at most max_frames", async (t) => {
    const file = join(temporaryFolder(t), "x.pkl");
    const video = { ...randomVideo(3), frames: 9, rgb: new Uint8Array(54).fill(1), audio: new Uint8Array(27).fill(2) };
    await writePickleShard(file, [video], 4);
    assert.ok(readFileSync(file).includes(Buffer.from(video.rgb)));
    assert.equal((await readVideos(file, SMALL))[0]?.frames, 4);
  });

  test("is read by PaddleVideo's code with the same result", {
    skip: numpyPython === undefined && "there is no python3 with numpy: set NEXTVLAD_PYTHON to one",
  }, async (t) => {
    const [pickled, shard] = [join(temporaryFolder(t), "x.pkl"), goldenData("train0000.tfrecord")];
    const videos = await readVideos(shard, FULL);
    await writePickleShard(pickled, videos, 10);
    const program = `
import json, pickle, sys
import numpy
with open(sys.argv[1], "rb") as file:
    data = pickle.load(file, encoding="bytes")
found = []
for record in data:
    nframes = record[b"nframes"]
    rgb = record[b"feature"].astype(float)[0:nframes, :]
    audio = record[b"audio"].astype(float)[0:nframes, :]
    one_hot = numpy.zeros(50)
    one_hot[record[b"label"]] = 1
    assert record[b"feature"].dtype == numpy.uint8 and record[b"feature"].flags.c_contiguous
    found.append({
        "id": record[b"video"].decode(), "frames": nframes, "shapes": [rgb.shape, audio.shape], "sums": [rgb.sum(), audio.sum()],
        "last": [rgb[-1, -1], audio[-1, -1]], "labels": numpy.flatnonzero(one_hot).tolist(),
    })
print(json.dumps(found))
`;
    const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => total + byte, 0);
    const expected = videos.map(({ id, frames: all, rgb, audio, labels }) => {
      const frames = Math.min(all, 10);
      const kept = [rgb.subarray(0, frames * 1024), audio.subarray(0, frames * 128)] as const;
      const shapes = [
        [frames, 1024],
        [frames, 128],
      ];
      return { id, frames, shapes, sums: kept.map(sum), last: kept.map((bytes) => bytes.at(-1)), labels: [...labels] };
    });
    assert.deepEqual(JSON.parse(python(numpyPython as string, program, pickled)), expected);
  });
});

test("pickles and TFRecord files in one list yield the same batches as either alone", async (t) => {
  const folder = temporaryFolder(t);
  const { shards, content } = await writeShards(folder, [40, 3, 17, 1, 16, 33, 8, 25, 5, 32, 2]);
  const pickles = shards.map((path) => path.replace(".tfrecord", ".pkl"));
  for (const [i, path] of pickles.entries()) await writePickleShard(path, content[i] as Video[], 300);
  const mixed = shards.map((path, i) => (i % 2 === 0 ? path : (pickles[i] as string)));
  for (const order of ["shuffled", "sequential"] as const) {
    const batchesOf = (list: readonly string[], change: Partial<Omit<StreamOptions, "shards">> = {}) =>
      collect(openStream(streamOptions({ shards: list, order, ...change })), structuredClone);
    const expected = await batchesOf(shards);
    assert.deepEqual(await batchesOf(pickles), expected);
    assert.deepEqual(await batchesOf(mixed, { readers: 3 }), expected);
    assert.deepEqual(await batchesOf(mixed, { skipBatches: 20 }), expected.slice(20));
  }
});

describe("invalid pickles", () => {
  const video = new Map<Picklable, Picklable>([
    ["video", "abcd"],
    ["label", [1n]],
    ["nframes", 2n],
  ]);

  const array = (
    dtype: PickledDtype,
    shape: readonly [number, number?],
    values: Float32Array | Float64Array | Int32Array | Uint8Array,
  ): ReducedObject => {
    const data = new Uint8Array(shape.reduce<number>((size, side) => size * (side ?? 1), values.BYTES_PER_ELEMENT));
    data.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return pickleArray(dtype, shape as readonly number[], data);
  };
  const NOT_BYTES =
    /BAD_VIDEO: .*value 1 of frame 1 of feature \(f4\) is not an integer in 0\.\.255 .*found -0\.5\)\. Quantize .*clip\(x, -2, 2\).*convert/;

  async function refused(t: Parameters<typeof temporaryFolder>[0], items: readonly Picklable[]): Promise<string> {
    const file = join(temporaryFolder(t), "x.pkl");
    const pieces: Uint8Array[] = [];
    for await (const piece of encodePickledList(items)) pieces.push(piece);
    writeFileSync(file, Buffer.concat(pieces));
    const failed = readVideos(file, SMALL);
    const error = await failed.then(
      () => assert.fail("it was read"),
      (thrown: Error & { code: string }) => thrown,
    );
    return `${error.code}: ${error.message}`;
  }

  test("with missing values or values of another type: the error has record and ID", async (t) => {
    const cases: [readonly Picklable[], RegExp][] = [
      [[1n], /BAD_VIDEO: .*record 0: the item is not a dict\. Use the form that PaddleVideo's tf2pkl\.py writes/],
      [[new Map([["id", "a"]])], /BAD_VIDEO: .*record 0: the video has no ID: .*it has "id"\.$/],
      [[video], /BAD_VIDEO: .*record 0, video abcd: the video has neither feature nor audio\. .*it has "video", "label", "nframes"\.$/],
      [[new Map([...video, ["audio", array("u1", [2, 3], new Uint8Array(6))]])], /BAD_VIDEO: .*video abcd: the video has no feature\./],
      [
        [new Map([...video, ["feature", [1n]]])],
        /video's feature is not an array of frames \(expected uint8 \[frames, size\], found no array\)/,
      ],
      [[new Map([...video, ["feature", array("f4", [2, 6], Float32Array.of(0, 255, 0, 0, 0, 0, 0, -0.5))]])], NOT_BYTES],
      [[new Map([...video, ["feature", array("i4", [1, 6], Int32Array.of(0, 0, 256))]])], /value 2 of frame 0 .*found 256/],
      [[new Map([...video, ["label", ["a"]]])], /BAD_LABELS: .*label is not a list of integers/],
      [[new Map([...video, ["label", [1.5]]])], /BAD_LABELS: .*label is not a list of integers/],
      [[new Map([...video, ["label", array("f8", [2], Float64Array.of(1, 0.5))]])], /not a list of integers .*found an array f8 \[2\]/],
      [[new Map([...video, ["label", array("i4", [1, 2], Int32Array.of(1, 2))]])], /found an array i4 \[1, 2\]/],
      [[new Map([...video, ["nframes", -1n]])], /BAD_VIDEO: .*nframes is not a number of frames/],
      [[new Map([...video, ["nframes", 2.5]])], /BAD_VIDEO: .*nframes is not a number of frames/],
    ];
    for (const [items, message] of cases) assert.match(await refused(t, items), message);
  });

  test("with sizes, frames or labels that do not match the model", async (t) => {
    const file = join(temporaryFolder(t), "x.pkl");
    await writePickleShard(file, [{ ...randomVideo(1), labels: Int32Array.of(10) }], 300);
    await failsWith(readVideos(file, SMALL), "BAD_LABELS", { file, record: 0, video: "video1", found: 10 });
    await failsWith(readVideos(file, { ...SMALL, featureSizes: [6, 4] }), "BAD_VIDEO", { file, record: 0, video: "video1", found: 3 });
    await writePickleShard(file, [{ ...randomVideo(1), labels: Int32Array.of(0, 1, 0, 1, 0, 0, 0, 0, 0, 0) }], 300);
    const multiHot = await failsWith(readVideos(file, SMALL), "BAD_LABELS", { file, record: 0, video: "video1" });
    assert.match(multiHot.message, /multi-hot.*found 10 values, each 0 or 1\)\. Write the indices of the ones, as numpy\.flatnonzero/);
    await writePickleShard(file, [randomVideo(1)], 0);
    await failsWith(readVideos(file, SMALL), "BAD_VIDEO", { file, record: 0, video: "video1" });
  });

  test("in which many videos refer to one long list of labels: the reader stops early", async (t) => {
    const path = join(temporaryFolder(t), "shared.pkl");
    const dictOf = (labels: string): string => `}(U\x05videoU\x01aU\x05label${labels}u`;
    const pickle = `\x80\x02](${dictOf(`](${"K\x01".repeat(1000)}eq\0`)}${dictOf("h\0").repeat(20)}e.`;
    writeFileSync(path, pickle, "latin1");
    await failsWith(readVideos(path, SMALL), "BAD_VIDEO", { record: Math.floor(pickle.length / 1000) });
  });

  test("that name a program: it is not run", async (t) => {
    const folder = temporaryFolder(t);
    const file = join(folder, "x.pkl");
    const call = `cos\nsystem\n(S'touch ${join(folder, "run")}'\ntR`;
    for (const pickle of [`${call}.`, `\x80\x02]q\x00${call}a.`]) {
      writeFileSync(file, pickle, "latin1");
      assert.match((await failsWith(readVideos(file, SMALL), "UNSAFE_PICKLE", { file })).message, /os\.system/);
    }
    assert.ok(!existsSync(join(folder, "run")));
  });

  test("with mutated bytes yield videos or a NextvladError", async (t) => {
    const file = join(temporaryFolder(t), "x.pkl");
    const shard = join(temporaryFolder(t), "x.tfrecord");
    await writePickleShard(
      file,
      [1, 2].map((number) => randomVideo(number)),
      300,
    );
    await writeShard(shard, [randomVideo(1)]);
    for (const path of [file, shard]) {
      const whole = readFileSync(path);
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
          fc.nat(4 * whole.length),
          async (changes, length) => {
            const damaged = Uint8Array.from(whole);
            for (const [at, to] of changes) damaged[at] = to;
            writeFileSync(path, damaged.subarray(0, length));
            await readVideos(path, SMALL).catch((error: Error) => assert.equal(error.name, "NextvladError", error.stack));
          },
        ),
        { numRuns: 300 },
      );
    }
  });
});

test("a pickle of many values that are not videos ends after 10,000 problems", async (t) => {
  const path = join(temporaryFolder(t), "nones.pkl");
  writeFileSync(path, Buffer.concat([Buffer.from("\x80\x02](", "latin1"), Buffer.alloc(200_000, "N"), Buffer.from("e.")]));
  const filter = new CorruptRecordFilter("skip-record");
  assert.deepEqual(await collect(readShard(path, SMALL, { filter }), ({ video }) => video), []);
  const skipped = filter.take();
  assert.equal(skipped.length, 10_001);
  const last = skipped.at(-1);
  assert.equal(last?.extent, "rest of shard");
  assert.equal(last?.error.what, "more than 10000 records of this shard are corrupt: the rest of it is not read");
  await failsWith(readVideos(path, SMALL), "BAD_VIDEO", { file: path, record: 0 });
});

test("a pickle larger than 1 GiB, and an array longer than the maximum record, are rejected before they are read", async (t) => {
  const path = join(temporaryFolder(t), "large.pkl");
  writeFileSync(path, Buffer.from("\x80\x02]q\x00T\xff\xff\xff\x1f", "latin1"));
  truncateSync(path, 2 ** 29 + 100);
  assert.match(
    (await failsWith(readVideos(path, SMALL), "BAD_FORMAT", { file: path })).message,
    /expected at most 268435456 bytes, found 536870911/,
  );
  await failsWith(readVideos(path, { ...SMALL, maxRecordBytes: 1000 }), "BAD_FORMAT", { file: path });
  truncateSync(path, 2 ** 30 + 1);
  assert.match((await failsWith(readVideos(path, SMALL), "BAD_FORMAT", { file: path })).message, /too large to be read into memory/);
});
