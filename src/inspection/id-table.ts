import { createHash } from "node:crypto";
import { encodeBytes, isUnicode } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";

const FIRST_IDS = 2 ** 12;
const FIRST_BYTES = 2 ** 16;
/** Maximum size of the IDs in bytes, so that offsets fit uint32. */
const MOST_BYTES = 2 ** 32 - 1;
/** Growth factor of the arrays; the table doubles. */
const GROWTH = 1.5;
/** Maximum load factor of the table. */
const FULL = 0.75;

/** IDs of consecutive records: for each, its length in one byte, then its bytes. An empty ID means that the record's ID is unknown. */
export type PackedIds = Uint8Array;

const LONGEST_ID = 255;

/** Encodes IDs as `PackedIds`. */
export class IdPacker {
  #bytes = Buffer.alloc(FIRST_BYTES);
  #used = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Appends an ID. IDs of more than 255 bytes, which do not occur in practice, are stored as their SHA-256. */
  add(id: string): void {
    // A UTF-16 code unit takes at most three bytes in UTF-8.
    if (this.#used + 1 + 3 * id.length > this.#bytes.length) this.#makeRoom(1 + 3 * id.length);
    const start = this.#used + 1;
    let length = isUnicode(id) ? this.#bytes.write(id, start, "utf8") : Buffer.from(encodeBytes(id)).copy(this.#bytes, start);
    if (length > LONGEST_ID) length = createHash("sha256").update(encodeBytes(id)).digest().copy(this.#bytes, start);
    this.#bytes[this.#used] = length;
    this.#used += 1 + length;
    this.#count++;
  }

  #makeRoom(idBytes: number): void {
    const larger = Buffer.alloc(Math.max(2 * this.#bytes.length, this.#used + idBytes));
    this.#bytes.copy(larger);
    this.#bytes = larger;
  }

  /** Returns a copy of the IDs so far. */
  packed(): PackedIds {
    return new Uint8Array(this.#bytes.subarray(0, this.#used));
  }
}

/**
 * The IDs of all records so far, byte for byte, to find repeated ones. For YouTube-8M, 6.1 million IDs of 4 letters, the three arrays take about 110 MB; a Map
 * of strings takes ten times as much. Records are numbered in the order of `add`.
 */
export class IdTable {
  /** Open addressing with linear probing: record numbers plus 1; 0 in empty slots. */
  #slots = new Uint32Array(FIRST_IDS * 2);
  /** Offset of each record's ID in `#bytes`. */
  #places = new Uint32Array(FIRST_IDS);
  #bytes = new Uint8Array(FIRST_BYTES);
  /** Offset 0 holds the empty ID, for all records without an ID. */
  #bytesUsed = 1;
  #records = 0;
  #ids = 0;
  readonly #seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;

  /** Number of records added. */
  get records(): number {
    return this.#records;
  }

  /** Number of different IDs. */
  get ids(): number {
    return this.#ids;
  }

  /** Memory of the table in bytes. */
  get heldBytes(): number {
    return this.#slots.byteLength + this.#places.byteLength + this.#bytes.byteLength;
  }

  /** Adds records by their IDs; calls `onRepeat` for each whose ID an earlier record has. Throws OUT_OF_MEMORY if the IDs exceed 4 GB. */
  add(packed: PackedIds, onRepeat: (record: number, first: number) => void): void {
    for (let at = 0; at < packed.length; at += 1 + (packed[at] as number)) {
      const record = this.#records++;
      this.#makeRoom(1 + (packed[at] as number));
      if (packed[at] === 0) continue;
      const slot = this.#find(packed, at);
      const holder = this.#slots[slot] as number;
      if (holder !== 0) {
        this.#places[record] = this.#places[holder - 1] as number;
        onRepeat(record, holder - 1);
        continue;
      }
      const end = at + 1 + (packed[at] as number);
      this.#bytes.set(packed.subarray(at, end), this.#bytesUsed);
      this.#places[record] = this.#bytesUsed;
      this.#bytesUsed += end - at;
      this.#slots[slot] = record + 1;
      this.#ids++;
    }
  }

  /** Returns the bytes of a record's ID. */
  idOf(record: number): Uint8Array {
    const place = this.#places[record] as number;
    return this.#bytes.subarray(place + 1, place + 1 + (this.#bytes[place] as number));
  }

  /** Returns the slot of the ID at `at`, or the empty slot where it would be inserted. */
  #find(source: Uint8Array, at: number): number {
    const last = this.#slots.length - 1;
    let slot = this.#hash(source, at) & last;
    for (let holder = this.#slots[slot]; holder !== 0; holder = this.#slots[slot]) {
      if (this.#isSame(source, at, this.#places[(holder as number) - 1] as number)) break;
      slot = (slot + 1) & last;
    }
    return slot;
  }

  #isSame(source: Uint8Array, at: number, place: number): boolean {
    const bytes = this.#bytes;
    for (let i = source[at] as number; i >= 0; i--) if (source[at + i] !== bytes[place + i]) return false;
    return true;
  }

  /** Randomly seeded, so that no shard can be crafted to cause collisions. */
  #hash(source: Uint8Array, at: number): number {
    let hash = this.#seed;
    for (let i = at + (source[at] as number); i > at; i--) {
      hash = Math.imul(hash ^ (source[i] as number), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #makeRoom(idBytes: number): void {
    const bytes = this.#bytesUsed + idBytes;
    if (bytes > MOST_BYTES)
      throw new NextvladError("OUT_OF_MEMORY", "there are more ids than can be told apart", { remedy: "check fewer shards at a time" });
    if (bytes > this.#bytes.length) {
      const larger = new Uint8Array(Math.min(Math.ceil(this.#bytes.length * GROWTH), MOST_BYTES));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    if (this.#records > this.#places.length) {
      const larger = new Uint32Array(Math.ceil(this.#places.length * GROWTH));
      larger.set(this.#places);
      this.#places = larger;
    }
    if (this.#ids + 1 > this.#slots.length * FULL) this.#rehash(this.#slots.length * 2);
  }

  #rehash(length: number): void {
    const holders = this.#slots;
    this.#slots = new Uint32Array(length);
    for (const holder of holders) {
      if (holder !== 0) this.#slots[this.#find(this.#bytes, this.#places[holder - 1] as number)] = holder;
    }
  }
}
