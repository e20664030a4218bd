import type { TestEvent } from "node:test/reporters";

/** A reporter of Node's test runner that ends the process at the first test that fails: one is enough to kill a mutant. */
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    if (event.type !== "test:fail") continue;
    yield `${event.data.name}\n`;
    process.exit(1);
  }
}
