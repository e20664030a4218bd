import { stringifyWithChecksum } from "../formats/checksum.js";
import { FORMAT_VERSION } from "./snapshot-layout.js";
import type { FileChecksums, RunState, SnapshotState, WrittenBy } from "./snapshot-state.js";

/**
 * Returns the text of `state.json`: the state, followed by its checksum.
 * This function is in its own file so that the worker that writes snapshots does not load the validation library, which takes a tenth of a second and a hundred
 * files.
 */
export function encodeState(run: RunState, writtenBy: WrittenBy | null, files: FileChecksums | null): string {
  const { step, epoch, step_in_epoch, seed, best, validated_epoch, shards } = run;
  const state: SnapshotState = {
    format_version: FORMAT_VERSION,
    ...{ step, epoch, step_in_epoch, seed, best, validated_epoch, shards },
    ...{ written_by: writtenBy, files },
  };
  return stringifyWithChecksum(state);
}
