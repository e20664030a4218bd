import { writeSync } from "node:fs";
import type { TestEvent } from "node:test/reporters";

/** A reporter of Node's test runner that ends the process at the first test that fails: one is enough to kill a mutant. */
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  yield "";
  for await (const event of events) {
    if (event.type !== "test:fail") continue;
    // The process ends before what is yielded would be written.
    writeSync(1, `${event.data.name}: ${String(event.data.details.error.cause ?? event.data.details.error)}\n`);
    process.exit(1);
  }
}
