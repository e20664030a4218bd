import { writeSync } from "node:fs";
import type { TestEvent } from "node:test/reporters";

/** A reporter for Node's test runner that exits at the first failed test, which suffices to kill a mutant. */
export default async function* report(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  yield "";
  for await (const event of events) {
    if (event.type !== "test:fail") continue;
    // Write directly: the process exits before yielded text would be written.
    writeSync(1, `${event.data.name}: ${String(event.data.details.error.cause ?? event.data.details.error)}\n`);
    process.exit(1);
  }
}
