import { tidy } from "../runtime/tensor.js";

/** The result of an exchange, which runs while this process computes something else. */
export interface Pending<T> {
  /** Waits for the exchange, once, and returns its result. Throws RANK_FAILED. */
  wait(): T;
}

/** Returns an exchange whose result is computed from that of another, whose tensors are freed. */
export function mapPending<T, U>(exchange: Pending<T>, compute: (result: T) => U): Pending<U> {
  return { wait: () => tidy(() => compute(exchange.wait())) };
}

/** A computation that pauses after starting an exchange whose result it needs, so that others can run meanwhile. */
export type Pausable<T> = Generator<void, T, void>;

/** Pauses until the computation is continued, then waits for an exchange and returns its result. */
export function* pauseFor<T>(exchange: Pending<T>): Pausable<T> {
  yield;
  return exchange.wait();
}

/** A computation that starts no exchange. */
export function* withoutPause<T>(compute: () => T): Pausable<T> {
  yield* [];
  return compute();
}

/**
 * Runs computations in turn, each up to the start of its next exchange, so that the exchanges of one run while the others compute. Returns their results. One
 * that starts no exchange runs to its end. All ranks run the same computations.
 */
export function runInTurn<T>(computations: readonly Pausable<T>[]): readonly T[] {
  const results = new Map<Pausable<T>, T>();
  while (results.size < computations.length) {
    for (const computation of computations) {
      if (results.has(computation)) continue;
      const { done, value } = computation.next();
      if (done) results.set(computation, value);
    }
  }
  return computations.map((computation) => results.get(computation) as T);
}
