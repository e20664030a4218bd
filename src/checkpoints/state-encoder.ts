import { sealJson } from "../formats/sealed-json.js";
import { FORMAT_VERSION } from "./snapshot-layout.js";
import type { FileChecksums, RunState, SnapshotState, WrittenBy } from "./snapshot-state.js";

/**
 * The text of `state.json`: the state, and last the checksum of it. In a file of its own, as the thread that writes a snapshot would take a tenth of a second
 * and a hundred files to load the library that checks what is read.
 */
export function encodeState(run: RunState, writtenBy: WrittenBy | null, files: FileChecksums | null): string {
  const { step, epoch, step_in_epoch, seed, best, validated_epoch, shards } = run;
  const state: SnapshotState = {
    format_version: FORMAT_VERSION,
    ...{ step, epoch, step_in_epoch, seed, best, validated_epoch, shards },
    ...{ written_by: writtenBy, files },
  };
  return sealJson(state);
}
