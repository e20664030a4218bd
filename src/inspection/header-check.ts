import { setTimeout } from "node:timers/promises";
import { NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { walkRecordHeaders } from "../formats/record-headers.js";

/** Reads in flight: Node's threads for files are four by default. */
const OPEN_FILES = 8;

export interface HeaderCheck {
  /** By shard. */
  readonly errors: ReadonlyMap<string, NextvladError>;
  /** Shards whose walk ended, or that cannot be walked. */
  readonly checked: number;
}

/**
 * Walks the record headers of shards (`walkRecordHeaders`), in the order given, for `limitMs` at most: finds a truncated shard without reading data.
 * Compressed shards and pickles are skipped. Throws nothing of a file's.
 */
export async function checkHeaders(paths: readonly string[], limitMs: number, maxRecordBytes?: number): Promise<HeaderCheck> {
  const errors = new Map<string, NextvladError>();
  const endMs = performance.now() + limitMs;
  const isOver = (): boolean => performance.now() >= endMs;
  let next = 0;
  let checked = 0;
  const work = async (): Promise<void> => {
    while (next < paths.length && !isOver()) {
      const path = paths[next++] as string;
      const end = await walk(path, isOver, maxRecordBytes).catch((error: unknown) => {
        if (error instanceof NextvladError) errors.set(path, error);
        // Whatever else keeps the file from being read is reported when its turn comes.
        return "whole";
      });
      if (end !== "cut short") checked++;
    }
  };
  // A read that never returns ends no wait here; the run warns about it.
  await Promise.race([Promise.all(Array.from({ length: OPEN_FILES }, work)), setTimeout(limitMs, undefined, { ref: false })]);
  return { errors: new Map(errors), checked };
}

async function walk(path: string, isOver: () => boolean, maxRecordBytes?: number): Promise<string> {
  const handle = await openInput(path);
  try {
    return await walkRecordHeaders(handle, path, isOver, maxRecordBytes);
  } finally {
    await handle.close();
  }
}
