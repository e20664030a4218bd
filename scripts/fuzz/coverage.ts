/** Hit counts of the instrumented code (see instrumentation.ts), per statement, function or branch. */
interface Counters {
  readonly hits: Record<number, number> | number[];
  readonly seen: Uint8Array;
}

/** A file's counters of statements, functions and branches, numbered from 0. */
interface FileCounters {
  readonly s: Counters["hits"];
  readonly f: Counters["hits"];
  readonly b: Readonly<Record<string, number[]>>;
}

/** Maps a hit count to a bit: 1, 2, 3, 4 to 7, 8 to 15, ... */
function magnitude(hits: number): number {
  if (hits < 4) return 1 << (hits - 1);
  return 1 << Math.min(7, Math.floor(Math.log2(hits)) + 1);
}

/** Tracks which code paths the inputs reach. */
export function watchCoverage(): { reachedNewPath(): boolean; readonly paths: number } {
  const files = (globalThis as { __coverage__?: Readonly<Record<string, FileCounters>> }).__coverage__ ?? {};
  const all: Counters[] = Object.values(files).flatMap(({ s, f, b }) =>
    [s, f, ...Object.values(b)].map((hits) => ({ hits, seen: new Uint8Array(Object.keys(hits).length) })),
  );
  let paths = 0;
  /** Returns whether any counter reached a new magnitude since the last call, and resets all counters. */
  const reachedNewPath = (): boolean => {
    const before = paths;
    for (const { hits, seen } of all) {
      for (let i = 0; i < seen.length; i++) {
        const count = hits[i] as number;
        if (count === 0) continue;
        const bit = magnitude(count);
        if (((seen[i] as number) & bit) === 0) {
          seen[i] = (seen[i] as number) | bit;
          paths++;
        }
        hits[i] = 0;
      }
    }
    return paths > before;
  };
  reachedNewPath();
  paths = 0;
  for (const { seen } of all) seen.fill(0);
  return {
    reachedNewPath,
    get paths() {
      return paths;
    },
  };
}
