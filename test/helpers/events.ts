import { readdirSync } from "node:fs";
import { join } from "node:path";
import { runPython } from "./python.js";

/** An event of TensorBoard. */
export interface ReadEvent {
  readonly seconds: number;
  readonly step: number;
  readonly version?: string;
  /** SessionLog's status; 1 is START. */
  readonly session?: number;
  /** Null for NaN. */
  readonly scalars: Readonly<Record<string, number | null>>;
  readonly histograms: Readonly<Record<string, ReadHistogram>>;
  readonly texts: Readonly<Record<string, string>>;
}

export interface ReadHistogram {
  /** min, max, num, sum, sum_squares */
  readonly numbers: readonly number[];
  readonly limits: readonly number[];
  readonly counts: readonly number[];
}

/** Reads TFRecords, with their checksums, and Protocol Buffers with the standard library: event.proto and summary.proto of TensorFlow. */
const PROGRAM = `
import json, struct, sys

TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
    TABLE.append(byte)

def check(data, stored):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ TABLE[crc & 0xff ^ byte]
    crc ^= 0xffffffff
    assert ((crc >> 15 | crc << 17) + 0xa282ead8) & 0xffffffff == struct.unpack("<I", stored)[0], "checksum"

def records(path):
    with open(path, "rb") as file:
        while header := file.read(12):
            check(header[:8], header[8:])
            data = file.read(struct.unpack("<Q", header[:8])[0])
            check(data, file.read(4))
            yield data

def fields(data):
    at = 0
    def varint():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value
    found = []
    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(tag & 7) or varint()
            value = data[at:at + size]
            assert len(value) == size, "truncated"
            at += size
        found.append((tag >> 3, value))
    return found

double = lambda data: struct.unpack("<d", data)[0]
doubles = lambda data: list(struct.unpack("<%dd" % (len(data) // 8), data))

def histogram(data):
    found = dict(fields(data))
    return {"numbers": [double(found[n]) for n in range(1, 6)], "limits": doubles(found[6]), "counts": doubles(found[7])}

def text(tensor, metadata):
    assert dict(fields(dict(fields(metadata))[1]))[1] == b"text" and dict(fields(tensor))[1] == 7
    return dict(fields(tensor))[8].decode()

def event(data):
    found = dict(fields(data))
    read = {"seconds": double(found[1]), "step": found.get(2, 0), "scalars": {}, "histograms": {}, "texts": {}}
    if 3 in found: read["version"] = found[3].decode()
    if 7 in found: read["session"] = dict(fields(found[7]))[1]
    for number, value in fields(found.get(5, b"")):
        assert number == 1
        value = dict(fields(value))
        tag = value[1].decode()
        if 2 in value:
            number = struct.unpack("<f", value[2])[0]
            read["scalars"][tag] = None if number != number else number
        if 5 in value: read["histograms"][tag] = histogram(value[5])
        if 8 in value: read["texts"][tag] = text(value[8], value[9])
    return read

print(json.dumps([event(data) for path in sys.argv[1:] for data in records(path)]))
`;

/** Returns the paths of the event files in a directory, in TensorBoard's order. */
export function eventFiles(directory: string): readonly string[] {
  const names = readdirSync(directory).filter((name) => name.includes("tfevents"));
  return names.sort().map((name) => join(directory, name));
}

/** Reads the events of a directory, with Python. */
export function readEvents(directory: string): readonly ReadEvent[] {
  return runPython(PROGRAM, eventFiles(directory)) as readonly ReadEvent[];
}

/** Returns the steps of each scalar and histogram that TensorBoard shows: a START event drops all before it that have its step or a later one. */
export function shownSteps(events: readonly ReadEvent[]): ReadonlyMap<string, readonly number[]> {
  const shown = new Map<string, readonly number[]>();
  for (const { step, session, scalars, histograms } of events) {
    if (session === 1)
      for (const [tag, steps] of shown)
        shown.set(
          tag,
          steps.filter((each) => each < step),
        );
    for (const tag of [...Object.keys(scalars), ...Object.keys(histograms)]) shown.set(tag, [...(shown.get(tag) ?? []), step]);
  }
  return shown;
}
