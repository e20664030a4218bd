import { type Allocate, ownMemory } from "../formats/frame-list.js";

/** New slabs are a little larger than the largest that was wanted, as what comes next is seldom just as long. */
const HEADROOM = 1.1;
/** Pieces begin at such multiples, which copying likes. */
const ALIGNMENT = 64;

/**
 * Large pieces of memory that go round, from thread to thread and back, to be filled again. Fresh memory costs more than all that is done with the bytes:
 * it is faulted in and cleared page by page, and a copy into it runs at 2.1 GB/s, into memory that was used before at 10 (measured).
 */
export class SlabPool {
  readonly #spare: ArrayBuffer[] = [];
  #wantedBytes = 0;

  /** A slab that nobody uses, which is as large as the largest that was wanted so far. */
  draw(): ArrayBuffer {
    const slab = this.#spare.pop();
    if (slab !== undefined && slab.byteLength >= this.#wantedBytes) return slab;
    return ownMemory(Math.ceil(this.#wantedBytes * HEADROOM)).buffer as ArrayBuffer;
  }

  /** Tells how large a slab should have been. */
  want(bytes: number): void {
    this.#wantedBytes = Math.max(this.#wantedBytes, bytes);
  }

  /** Takes a slab back; an empty one, as of a block without videos, would only be in the way. */
  giveBack(slab: ArrayBuffer): void {
    if (slab.byteLength > 0) this.#spare.push(slab);
  }
}

/** Memory given out by pieces, which is handed on as a whole. */
export class PieceSlab {
  readonly #pool: SlabPool;
  #slab: ArrayBuffer | null = null;
  #filled = 0;
  #keptBytes = 0;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  /** So many bytes: of the slab, or, where they do not fit in any more, of their own. */
  readonly allocate: Allocate = (bytes) => {
    this.#slab ??= this.#pool.draw();
    const start = this.#filled;
    this.#filled += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return start + bytes <= this.#slab.byteLength ? new Uint8Array(this.#slab, start, bytes) : ownMemory(bytes);
  };

  /** What was allocated so far stays. */
  keep(): void {
    this.#keptBytes = this.#filled;
  }

  /** What was allocated since is not used: a damaged record must not take up room, however many there are. */
  readonly undo = (): void => {
    this.#filled = this.#keptBytes;
  };

  /** The slab; what is allocated next is of another one. */
  take(): ArrayBuffer {
    const slab = this.#slab ?? new ArrayBuffer(0);
    this.#pool.want(this.#filled);
    this.#slab = null;
    this.#filled = 0;
    this.#keptBytes = 0;
    return slab;
  }
}

/** Bytes that are put one behind the other. */
export class JoinedSlab {
  readonly #pool: SlabPool;
  #bytes: Uint8Array = new Uint8Array(0);
  #filled = 0;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  append(part: Uint8Array): void {
    const end = this.#filled + part.length;
    if (end > this.#bytes.length) this.#grow(end);
    this.#bytes.set(part, this.#filled);
    this.#filled = end;
  }

  /** All of it; what is appended next begins another one. */
  take(): Uint8Array {
    const taken = this.#bytes.subarray(0, this.#filled);
    this.#pool.want(this.#filled);
    this.#bytes = new Uint8Array(0);
    this.#filled = 0;
    return taken;
  }

  #grow(bytes: number): void {
    const drawn = this.#filled === 0 ? new Uint8Array(this.#pool.draw()) : null;
    const larger = drawn !== null && drawn.length >= bytes ? drawn : ownMemory(Math.max(bytes, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#filled));
    this.#bytes = larger;
  }
}
