import { createHash } from "node:crypto";
import { access, readFile, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { fileError, NextvladError } from "../base/errors.js";
import { writeFileAtomic } from "../base/files.js";
import { sweepLeftovers } from "../base/leftovers.js";
import type { ConversionPlan, Origin, PlannedShard } from "./plan.js";

/** Beside the shards: what each was made from. */
const LEDGER = "convert.json";

const ledgerSchema = z.strictObject({ format_version: z.literal(1), shards: z.record(z.string(), z.string()) });

/**
 * Sees to it that what is in the folder is taken up or left alone. A shard appears whole or not at all, so one that is there and that the ledger says to be
 * of the same origin is done; one of another origin was made here and goes; one that the ledger does not know is not ours. Writes the ledger before any shard,
 * so that a conversion that is killed leaves nothing it does not know. Returns the shards that are still to be made, and `undo`, which removes the ledger if it is new.
 * Throws SAVE_DIR_TAKEN, BAD_FORMAT (the ledger is damaged), FILE_UNREADABLE, FILE_UNWRITABLE.
 */
export async function claimShards(
  out: string,
  plan: ConversionPlan,
): Promise<{ readonly due: readonly PlannedShard[]; readonly undo: () => Promise<void> }> {
  const file = join(out, LEDGER);
  const isNew = !(await exists(file));
  const made = await readLedger(file);
  const due: PlannedShard[] = [];
  const outdated: string[] = [];
  const foreign: string[] = [];
  for (const shard of plan.shards) {
    const { output } = shard.task;
    const name = basename(output);
    const isThere = await exists(output);
    if (isThere && made[name] === digest(shard.origin)) continue;
    due.push(shard);
    if (isThere) (Object.hasOwn(made, name) ? outdated : foreign).push(output);
  }
  if (foreign.length > 0) {
    const remedy = "choose another --out, or move them away";
    throw new NextvladError("SAVE_DIR_TAKEN", `${foreign.length} files of the shards' names are there, made by something else`, {
      file: foreign[0] as string,
      remedy,
    });
  }
  for (const path of outdated) await rm(path);
  await sweepLeftovers(out, new Set(due.map(({ task }) => basename(task.output))));
  const shards = { ...made, ...Object.fromEntries(plan.shards.map(({ task, origin }) => [basename(task.output), digest(origin)])) };
  await writeFileAtomic(file, `${JSON.stringify({ format_version: 1, shards }, null, 1)}\n`);
  return { due, undo: async () => (isNew ? rm(file, { force: true }) : undefined) };
}

/** A shard's origin, short. */
function digest(origin: Origin): string {
  return createHash("sha256").update(JSON.stringify(origin)).digest("hex");
}

async function readLedger(file: string): Promise<Readonly<Record<string, string>>> {
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw fileError(error, file, "read");
  });
  if (text === null) return {};
  try {
    return ledgerSchema.parse(JSON.parse(text)).shards;
  } catch (error) {
    const remedy = "choose another --out, or remove this file and the shards beside it";
    throw new NextvladError("BAD_FORMAT", "this is no record of a conversion, or it is damaged", { file, remedy }, error);
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
