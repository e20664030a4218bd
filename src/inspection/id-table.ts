import { createHash } from "node:crypto";
import { encodeBytes, isUnicode } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";

const FIRST_IDS = 2 ** 12;
const FIRST_BYTES = 2 ** 16;
/** Maximum size of the IDs in bytes, so that offsets fit uint32. */
const MAX_BYTES = 2 ** 32 - 1;
/** Growth factor of the arrays. */
const GROWTH = 1.5;

/** IDs of consecutive records: for each, its length in one byte, then its bytes. An empty ID means that the record's ID is unknown. */
export type PackedIds = Uint8Array;

const MAX_ID_BYTES = 255;

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
    if (this.#used + 1 + 3 * id.length > this.#bytes.length) this.#grow(1 + 3 * id.length);
    const start = this.#used + 1;
    let length = isUnicode(id) ? this.#bytes.write(id, start, "utf8") : Buffer.from(encodeBytes(id)).copy(this.#bytes, start);
    if (length > MAX_ID_BYTES) length = createHash("sha256").update(encodeBytes(id)).digest().copy(this.#bytes, start);
    this.#bytes[this.#used] = length;
    this.#used += 1 + length;
    this.#count++;
  }

  #grow(idBytes: number): void {
    const larger = Buffer.alloc(Math.max(2 * this.#bytes.length, this.#used + idBytes));
    this.#bytes.copy(larger);
    this.#bytes = larger;
  }

  /** Returns a copy of the IDs so far. */
  packed(): PackedIds {
    return new Uint8Array(this.#bytes.subarray(0, this.#used));
  }
}

/** Records that share an ID. */
export interface RepeatedIds {
  /** Number of records with the ID of an earlier record. */
  readonly records: number;
  /** For each repeated ID, the offsets of its records, ascending. */
  readonly groups: readonly (readonly number[])[];
}

/**
 * The IDs of all records, to find repeated ones: a sorted array of hashes, in which the bytes of IDs with equal hashes are compared. For YouTube-8M, 6.1 million
 * IDs of 4 letters, the arrays take about 80 MB; a Map of strings takes more than ten times as much. A record is known by the offset of its ID.
 */
export class IdTable {
  /** For each record with an ID, its offset and its hash. As little-endian uint64s, the pairs sort by hash, then by offset. */
  #entries = new Uint32Array(2 * FIRST_IDS);
  #count = 0;
  /** The IDs of all records, as added. */
  #bytes = new Uint8Array(FIRST_BYTES);
  #bytesUsed = 0;
  /** Random, so that no shard can be crafted to cause collisions. */
  readonly #seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;

  /** Memory of the table in bytes. */
  get memoryBytes(): number {
    return this.#entries.byteLength + this.#bytes.byteLength;
  }

  /** Adds records by their IDs. Returns the offset of the first one. Throws OUT_OF_MEMORY if the IDs exceed 4 GB. */
  add(packed: PackedIds): number {
    const start = this.#bytesUsed;
    this.#grow(packed.length);
    this.#bytes.set(packed, start);
    this.#bytesUsed += packed.length;
    for (let at = 0; at < packed.length; at += 1 + (packed[at] as number)) {
      if (packed[at] === 0) continue;
      if (2 * this.#count === this.#entries.length) {
        const larger = new Uint32Array(2 * Math.ceil(this.#count * GROWTH));
        larger.set(this.#entries);
        this.#entries = larger;
      }
      this.#entries[2 * this.#count] = start + at;
      this.#entries[2 * this.#count + 1] = this.#hash(packed, at);
      this.#count++;
    }
    return start;
  }

  /** Finds the repeated IDs, and lists at most `maxGroups` of them. */
  findRepeats(maxGroups: number): RepeatedIds {
    const entries = this.#entries;
    new BigUint64Array(entries.buffer, 0, this.#count).sort();
    let records = 0;
    const groups: number[][] = [];
    for (let start = 0, end = 0; start < this.#count; start = end) {
      while (end < this.#count && entries[2 * end + 1] === entries[2 * start + 1]) end++;
      if (end === start + 1) continue;
      const sameHash = this.#groupById(entries.subarray(2 * start, 2 * end));
      for (const group of sameHash) {
        records += group.length - 1;
        if (group.length > 1 && groups.length < maxGroups) groups.push(group);
      }
    }
    return { records, groups };
  }

  /** Groups entries with equal hashes by their IDs. */
  #groupById(entries: Uint32Array): number[][] {
    const groups: number[][] = [];
    for (let i = 0; i < entries.length; i += 2) {
      const offset = entries[i] as number;
      const group = groups.find(([first]) => this.#isSame(first as number, offset));
      if (group === undefined) groups.push([offset]);
      else group.push(offset);
    }
    return groups;
  }

  #isSame(a: number, b: number): boolean {
    const bytes = this.#bytes;
    for (let i = bytes[a] as number; i >= 0; i--) if (bytes[a + i] !== bytes[b + i]) return false;
    return true;
  }

  /** Returns the bytes of the ID at an offset. */
  idAt(offset: number): Uint8Array {
    return this.#bytes.subarray(offset + 1, offset + 1 + (this.#bytes[offset] as number));
  }

  /** Returns the number of records from one offset to another. */
  countRecords(start: number, end: number): number {
    let records = 0;
    for (let at = start; at < end; at += 1 + (this.#bytes[at] as number)) records++;
    return records;
  }

  #hash(source: Uint8Array, at: number): number {
    let hash = this.#seed;
    for (let i = at + (source[at] as number); i > at; i--) {
      hash = Math.imul(hash ^ (source[i] as number), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #grow(addedBytes: number): void {
    const bytes = this.#bytesUsed + addedBytes;
    if (bytes > MAX_BYTES) {
      throw new NextvladError("OUT_OF_MEMORY", "the IDs exceed the maximum of 4 GB", { remedy: "check fewer shards at a time" });
    }
    if (bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.min(Math.max(bytes, Math.ceil(this.#bytes.length * GROWTH)), MAX_BYTES));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}
