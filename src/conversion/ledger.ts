import { createHash } from "node:crypto";
import { access, readFile, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { fileError, NextvladError } from "../base/errors.js";
import { refuseForeignFile, resolveOutputFile, writeFileAtomic } from "../base/files.js";
import { sweepLeftovers } from "../base/leftovers.js";
import { type ConversionPlan, identify, type Origin, type PlannedShard } from "./plan.js";

/** File beside the shards that records what each was made from. */
const LEDGER = "convert.json";

const names = z.record(z.string(), z.string());
const ledgerSchema = z.strictObject({
  format_version: z.literal(1),
  shards: names,
  /** Checksums of the last two versions of each list: a killed run may have left either. Earlier versions of nextvlad have none. */
  lists: z.record(z.string(), z.array(z.string())).default({}),
});
type Ledger = z.output<typeof ledgerSchema>;

/** The shards of a plan, divided by what the folder already has. */
export interface ClaimedShards {
  /** Shards to convert. */
  readonly due: readonly PlannedShard[];
  /** Shards that an earlier run converted from the same sources with the same settings. */
  readonly kept: readonly PlannedShard[];
  /** Must be called before a due shard is converted: removes its outdated version, if any, and our list that names it. */
  readonly begin: (shard: PlannedShard) => Promise<void>;
  /** Writes the list of all shards. Throws FILE_UNWRITABLE. */
  readonly writeList: () => Promise<void>;
  /** Removes missing shards from the ledger, and the ledger itself if it becomes empty. */
  readonly forgetMissing: () => Promise<void>;
}

/**
 * Compares the folder with the plan. A shard is written atomically, so an existing one with the same origin in the ledger is complete. One with another origin
 * is outdated, and is kept until it is converted again. One that is not in the ledger is foreign: an error without `overwrite`, outdated with it; likewise a
 * list that is not in the ledger.
 * A shard is entered in the ledger before it is made, so that a killed run leaves no shard that is not in the ledger.
 * Throws SAVE_DIR_TAKEN, BAD_FORMAT (the ledger is corrupt), FILE_UNREADABLE, FILE_UNWRITABLE.
 */
export async function claimShards(out: string, plan: ConversionPlan, overwrite = false): Promise<ClaimedShards> {
  const file = join(out, LEDGER);
  const { shards: ledger, lists } = await readLedger(file);
  const list = join(out, plan.listName);
  const isListOurs = await isOurList(list, plan, ledger, lists);
  await refuseForeignFile(list, overwrite, () => isListOurs);
  const due: PlannedShard[] = [];
  const kept: PlannedShard[] = [];
  const outdated = new Set<string>();
  const foreign: string[] = [];
  for (const shard of plan.shards) {
    const { output } = shard.task;
    const name = basename(output);
    const isThere = await exists(output);
    if (isThere) await resolveOutputFile(output);
    const isDone = isThere && ledger[name] === digest(shard.origin);
    (isDone ? kept : due).push(shard);
    if (isThere && !isDone) {
      if (overwrite || Object.hasOwn(ledger, name)) outdated.add(output);
      else foreign.push(output);
    }
  }
  if (foreign.length > 0) {
    const remedy = "choose another --out, or replace them with --overwrite";
    throw new NextvladError("SAVE_DIR_TAKEN", `${foreign.length} files of the shards' names are there, made by something else`, {
      file: foreign[0] as string,
      remedy,
    });
  }
  await sweepLeftovers(out, new Set(due.map(({ task }) => basename(task.output))));
  const enter = ({ task, origin }: PlannedShard): void => {
    ledger[basename(task.output)] = digest(origin);
  };
  const write = (): Promise<void> => writeFileAtomic(file, `${JSON.stringify({ format_version: 1, shards: ledger, lists }, null, 1)}\n`);
  for (const shard of due) if (!outdated.has(shard.task.output)) enter(shard);
  await write();
  let writing: Promise<void> = Promise.resolve();
  return {
    due,
    kept,
    async begin(shard) {
      const { output } = shard.task;
      if (!outdated.delete(output)) return;
      // With this order, a run that is killed at any point leaves no outdated shard that the ledger lists as current.
      if (isListOurs) await rm(list, { force: true });
      await rm(output);
      enter(shard);
      writing = writing.then(write);
      await writing;
    },
    async writeList() {
      lists[plan.listName] = [...new Set([...(lists[plan.listName] ?? []), checksum(plan.listText)])].slice(-2);
      await write();
      await writeFileAtomic(list, plan.listText);
    },
    async forgetMissing() {
      for (const name of Object.keys(ledger)) if (!(await exists(join(out, name)))) delete ledger[name];
      if (Object.keys(ledger).length === 0) await rm(file, { force: true });
      else await write();
    },
  };
}

/** Returns the checksum of a shard's origin. */
function digest(origin: Origin): string {
  return checksum(JSON.stringify(origin));
}

function checksum(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Returns whether convert wrote the list and may replace it. Earlier versions did not record lists: for those, a list that names only our shards is ours. */
async function isOurList(list: string, plan: ConversionPlan, shards: Ledger["shards"], lists: Ledger["lists"]): Promise<boolean> {
  const found = await stat(list).catch(() => null);
  if (found === null) return true;
  if (!found.isFile()) return false;
  // The source list must not be replaced, even if an earlier conversion wrote it.
  if ((await identify(list)) === (await identify(plan.list))) return false;
  const text = await readFile(list, "utf8").catch((error: unknown) => {
    throw fileError(error, list, "read");
  });
  const checksums = lists[plan.listName];
  if (text === plan.listText || checksums?.includes(checksum(text))) return true;
  const named = text.split("\n").filter((line) => line !== "");
  return checksums === undefined && named.length > 0 && named.every((line) => Object.hasOwn(shards, line));
}

async function readLedger(file: string): Promise<Ledger> {
  await resolveOutputFile(file);
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw fileError(error, file, "read");
  });
  if (text === null) return { format_version: 1, shards: {}, lists: {} };
  try {
    return ledgerSchema.parse(JSON.parse(text));
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
