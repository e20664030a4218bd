import type { InspectFlags } from "./options.js";
import { print } from "./output.js";

/** `nextvlad inspect`: prints what the shard holds; returns the exit code, 1 where not all of it can be read. */
export async function runInspect(shard: string, flags: InspectFlags): Promise<number> {
  const { inspectShard } = await import("../inspection/inspect.js");
  const { formatInspection } = await import("../inspection/inspect-text.js");
  const inspection = await inspectShard(shard);
  await print(flags.json ? `${JSON.stringify(inspection, null, 1)}\n` : formatInspection(inspection));
  return inspection.problems > 0 ? 1 : 0;
}
