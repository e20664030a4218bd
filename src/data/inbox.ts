/** A queue between an event handler that puts and an async reader that takes. A failure is met after all that was put before it, and stays. */
export class Inbox<T> {
  readonly #items: T[] = [];
  readonly #waiting: { resolve: (item: T) => void; reject: (error: Error) => void }[] = [];
  #failure: Error | undefined;

  put(item: T): void {
    const taker = this.#waiting.shift();
    if (taker === undefined) this.#items.push(item);
    else taker.resolve(item);
  }

  /** Ends the queue: whoever waits or takes past its last item gets the error. The first failure stands. */
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
