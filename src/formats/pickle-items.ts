import { closeSync, fstatSync, readSync } from "node:fs";
import { fileError } from "../base/errors.js";
import { openInputSync } from "../base/input.js";
import { PickleCursor, type PickleSource } from "./pickle-cursor.js";
import { PickleMachine } from "./pickle-machine.js";
import { runOpcode } from "./pickle-reader.js";
import type { PickledValue } from "./pickle-values.js";

/** Result files contain IDs and numbers, and no arrays. */
const MAX_STRING_BYTES = 1 << 24;

/**
 * Reads a pickled list item by item, in memory that does not grow with the number of items (except for memoized text); otherwise like `parsePickle`. Items may
 * share text, dtypes and globals, and nothing else. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, UNSAFE_PICKLE.
 */
export function* readPickledItems(path: string): Generator<PickledValue, void> {
  const source = openSource(path);
  try {
    const cursor = new PickleCursor(source, path, MAX_STRING_BYTES);
    const machine = new PickleMachine(cursor);
    while (runOpcode(machine, cursor)) yield* machine.takeItems();
    const list = machine.result();
    if (!Array.isArray(list)) throw cursor.error("it is no list");
    yield* list;
  } finally {
    source.close();
  }
}

function openSource(path: string): PickleSource & { close(): void } {
  const reading = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw fileError(error, path, "read");
    }
  };
  const file = openInputSync(path);
  return {
    sizeBytes: reading(() => fstatSync(file).size),
    read: (target) => reading(() => readSync(file, target)),
    close: () => closeSync(file),
  };
}
