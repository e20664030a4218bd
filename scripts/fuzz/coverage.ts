/** What the instrumented code counts (see instrumentation.ts): times that each statement, function and branch was run. */
interface Counters {
  readonly hits: Record<number, number> | number[];
  readonly seen: Uint8Array;
}

/** A file's counters, by their numbers from 0. */
interface FileCounters {
  readonly s: Counters["hits"];
  readonly f: Counters["hits"];
  readonly b: Readonly<Record<string, number[]>>;
}

/** How often something was run, as a bit of its own for each magnitude: once, twice, thrice, 4 to 7, 8 to 15, ... */
function magnitude(hits: number): number {
  if (hits < 4) return 1 << (hits - 1);
  return 1 << Math.min(7, Math.floor(Math.log2(hits)) + 1);
}

/** Watches which ways through the instrumented code the inputs take. */
export function watchCoverage(): { takeNew(): boolean; readonly ways: number } {
  const files = (globalThis as { __coverage__?: Readonly<Record<string, FileCounters>> }).__coverage__ ?? {};
  const all: Counters[] = Object.values(files).flatMap(({ s, f, b }) =>
    [s, f, ...Object.values(b)].map((hits) => ({ hits, seen: new Uint8Array(Object.keys(hits).length) })),
  );
  let ways = 0;
  /** Whether anything was run since the last call that never was before, or never as often; all counts go back to 0. */
  const takeNew = (): boolean => {
    const before = ways;
    for (const { hits, seen } of all) {
      for (let i = 0; i < seen.length; i++) {
        const count = hits[i] as number;
        if (count === 0) continue;
        const bit = magnitude(count);
        if (((seen[i] as number) & bit) === 0) {
          seen[i] = (seen[i] as number) | bit;
          ways++;
        }
        hits[i] = 0;
      }
    }
    return ways > before;
  };
  takeNew();
  ways = 0;
  for (const { seen } of all) seen.fill(0);
  return {
    takeNew,
    get ways() {
      return ways;
    },
  };
}
