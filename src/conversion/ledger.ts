import { createHash } from "node:crypto";
import { access, readFile, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { z } from "zod";
import { fileError, NextvladError } from "../base/errors.js";
import { writeFileAtomic } from "../base/files.js";
import { removeLeftovers } from "../base/leftovers.js";
import { assertReplaceable, resolveOutputFile } from "../base/output-checks.js";
import { type ConversionPlan, identify, type Origin, type PlannedShard } from "./plan.js";

/** File next to the shards that records what each was converted from. */
const LEDGER_NAME = "convert.json";

const ledgerSchema = z.strictObject({
  format_version: z.literal(1),
  /** The checksum of each shard's origin, by the shard's file name. */
  shards: z.record(z.string(), z.string()),
  /** Checksums of the last two versions of each list: a killed run may have left either. Earlier versions of nextvlad have none. */
  lists: z.record(z.string(), z.array(z.string())).default({}),
});
type LedgerFile = z.output<typeof ledgerSchema>;

/** The state of an output directory: which shards of a plan it already has, and the record of what each was converted from. */
export interface Ledger {
  /** Shards to convert. */
  readonly pending: readonly PlannedShard[];
  /** Shards that an earlier run converted from the same sources with the same settings. */
  readonly upToDate: readonly PlannedShard[];
  /** Must be called before a pending shard is converted: removes its outdated version, if any, and our list that names it. */
  readonly start: (shard: PlannedShard) => Promise<void>;
  /** Writes the list of all shards. Throws FILE_UNWRITABLE. */
  readonly writeList: () => Promise<void>;
  /** Removes missing shards from the ledger, and the ledger itself if it becomes empty. */
  readonly removeMissing: () => Promise<void>;
}

/**
 * Compares an output directory with the plan. A shard is written atomically, so an existing one with the same origin in the ledger is complete. One with
 * another origin is outdated, and is replaced when it is converted again. One that is not in the ledger is foreign: an error without `overwrite`, outdated with
 * it; likewise a list that is not in the ledger.
 * A shard is entered in the ledger before it is written, so that a killed run leaves no shard that is not in the ledger.
 * Throws SAVE_DIR_TAKEN, BAD_FORMAT (the ledger is corrupt), FILE_UNREADABLE, FILE_UNWRITABLE.
 */
export async function openLedger(out: string, plan: ConversionPlan, overwrite = false): Promise<Ledger> {
  const file = join(out, LEDGER_NAME);
  const { shards: digests, lists } = await readLedger(file);
  const list = join(out, plan.listName);
  const isOwnList = await isListOwn(list, plan, digests, lists);
  await assertReplaceable(list, overwrite, () => isOwnList);
  const pending: PlannedShard[] = [];
  const upToDate: PlannedShard[] = [];
  const outdated = new Set<string>();
  const foreign: string[] = [];
  for (const shard of plan.shards) {
    const { output } = shard.task;
    const name = basename(output);
    const exists = await fileExists(output);
    if (exists) await resolveOutputFile(output);
    const isUpToDate = exists && digests[name] === digest(shard.origin);
    (isUpToDate ? upToDate : pending).push(shard);
    if (exists && !isUpToDate) {
      if (overwrite || Object.hasOwn(digests, name)) outdated.add(output);
      else foreign.push(output);
    }
  }
  if (foreign.length > 0) {
    const files = foreign.length === 1 ? "a file" : `${foreign.length} files`;
    const remedy = "use another --out, or replace them with --overwrite";
    const details = { file: foreign[0] as string, remedy };
    throw new NextvladError("SAVE_DIR_TAKEN", `the new shards would replace ${files} that convert did not write`, details);
  }
  await removeLeftovers(out, new Set(pending.map(({ task }) => basename(task.output))));
  const addEntry = ({ task, origin }: PlannedShard): void => {
    digests[basename(task.output)] = digest(origin);
  };
  const write = (): Promise<void> => writeFileAtomic(file, `${JSON.stringify({ format_version: 1, shards: digests, lists }, null, 1)}\n`);
  for (const shard of pending) if (!outdated.has(shard.task.output)) addEntry(shard);
  await write();
  let writing: Promise<void> = Promise.resolve();
  return {
    pending,
    upToDate,
    async start(shard) {
      const { output } = shard.task;
      if (!outdated.delete(output)) return;
      // With this order, a run that is killed at any point leaves no outdated shard that the ledger lists as current.
      if (isOwnList) await rm(list, { force: true });
      await rm(output);
      addEntry(shard);
      writing = writing.then(write);
      await writing;
    },
    async writeList() {
      lists[plan.listName] = [...new Set([...(lists[plan.listName] ?? []), checksum(plan.listText)])].slice(-2);
      await write();
      await writeFileAtomic(list, plan.listText);
    },
    async removeMissing() {
      for (const name of Object.keys(digests)) if (!(await fileExists(join(out, name)))) delete digests[name];
      if (Object.keys(digests).length === 0) await rm(file, { force: true });
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
async function isListOwn(list: string, plan: ConversionPlan, shards: LedgerFile["shards"], lists: LedgerFile["lists"]): Promise<boolean> {
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
  const names = text.split("\n").filter((line) => line !== "");
  return checksums === undefined && names.length > 0 && names.every((line) => Object.hasOwn(shards, line));
}

async function readLedger(file: string): Promise<LedgerFile> {
  await resolveOutputFile(file);
  const text = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw fileError(error, file, "read");
  });
  if (text === null) return { format_version: 1, shards: {}, lists: {} };
  try {
    return ledgerSchema.parse(JSON.parse(text));
  } catch (error) {
    const remedy = "use another --out, or remove this file and the shards next to it";
    throw new NextvladError("BAD_FORMAT", "not a conversion ledger, or corrupt", { file, remedy }, error);
  }
}

async function fileExists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
