/** A queue between an event handler (`put`) and an asynchronous reader (`take`). After a failure, `take` first returns the items left, then always rejects. */
export class AsyncQueue<T> {
  readonly #items: T[] = [];
  readonly #waiting: { resolve: (item: T) => void; reject: (error: Error) => void }[] = [];
  #failure: Error | undefined;

  put(item: T): void {
    const taker = this.#waiting.shift();
    if (taker === undefined) this.#items.push(item);
    else taker.resolve(item);
  }

  /** Fails the queue: pending takes, and takes from the empty queue, reject with the error. Only the first error is kept. */
  fail(error: Error): void {
    this.#failure ??= error;
    for (const taker of this.#waiting.splice(0)) taker.reject(this.#failure);
  }

  take(): Promise<T> {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift() as T);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }
}
