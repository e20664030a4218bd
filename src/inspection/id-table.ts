import { createHash } from "node:crypto";
import { encodeBytes, isUnicode } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";

const FIRST_IDS = 2 ** 12;
const FIRST_BYTES = 2 ** 16;
/** Where a place in the bytes still fits a 32-bit number. */
const MOST_BYTES = 2 ** 32 - 1;
/** By which the arrays grow; the table doubles. */
const GROWTH = 1.5;
/** How full the table may be: three quarters. */
const FULL = 0.75;

/** A video's id as it is kept: its length in one byte, then its bytes; an empty one stands for a record whose id is not known. */
export type PackedIds = Uint8Array;

const LONGEST_ID = 255;

/** Collects ids in that form. */
export class IdPacker {
  #bytes = Buffer.alloc(FIRST_BYTES);
  #used = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Ids of more than 255 bytes, which nobody has, are kept as their SHA-256. */
  add(id: string): void {
    // A letter of UTF-16 is three bytes of UTF-8 at most.
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

  /** The ids so far, in memory of their own. */
  packed(): PackedIds {
    return new Uint8Array(this.#bytes.subarray(0, this.#used));
  }
}

/**
 * The ids of all records so far, byte for byte, to find those that come twice. At YouTube-8M's size, 6.1 million ids of 4 letters, the three arrays take
 * some 110 MB, where a Map of strings takes ten times as much. Records are numbered as they are added.
 */
export class IdTable {
  /** Open addressing with linear probing: numbers of records plus 1; 0 where there is none. */
  #slots = new Uint32Array(FIRST_IDS * 2);
  /** Where each record's id stands in `#bytes`. */
  #places = new Uint32Array(FIRST_IDS);
  #bytes = new Uint8Array(FIRST_BYTES);
  /** The empty id stands at 0, for all who have none. */
  #bytesUsed = 1;
  #records = 0;
  #ids = 0;
  readonly #seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;

  /** Records added. */
  get records(): number {
    return this.#records;
  }

  /** Different ids. */
  get ids(): number {
    return this.#ids;
  }

  /** Bytes that the table takes. */
  get heldBytes(): number {
    return this.#slots.byteLength + this.#places.byteLength + this.#bytes.byteLength;
  }

  /** Adds records by their ids, back to back; calls back for each whose id an earlier one has. Throws OUT_OF_MEMORY past 4 GB of ids. */
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

  /** The bytes of a record's id. */
  idOf(record: number): Uint8Array {
    const place = this.#places[record] as number;
    return this.#bytes.subarray(place + 1, place + 1 + (this.#bytes[place] as number));
  }

  /** The slot of the id that stands at `at`, or the empty one where it belongs. */
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

  /** Seeded at random, so that no shard can be made to slow it down. */
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
