import { setTimeout } from "node:timers/promises";
import { NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { walkRecordHeaders } from "../formats/record-headers.js";

/** Shards checked concurrently. Each takes a thread of libuv's pool, which has four by default (64 in nextvlad.cts). */
const OPEN_FILES = 8;

export interface HeaderCheck {
  /** Errors by path of the shard. */
  readonly errors: ReadonlyMap<string, NextvladError>;
  /** Shards that were checked completely, or that cannot be checked this way. */
  readonly checked: number;
}

/**
 * Walks the record headers of shards (`walkRecordHeaders`), in the given order, for at most `limitMs`: finds truncated shards without reading data. Skips
 * compressed shards and pickles. File errors are in the result, not thrown.
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
        // Other errors of the file are reported when the run reads it.
        return "whole";
      });
      if (end !== "cut short") checked++;
    }
  };
  // A read that never returns does not block this check; the run warns about it.
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
