import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRandom } from "../../src/base/random.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";

/** Writes shards like AudioSet's, `{folder}/{bal_train,eval}/00.tfrecord`: clips of ten frames of one modality, with labels below 527. */
export function writeAudioSet(folder: string): void {
  const random = createRandom(2, "digits");
  for (const [part, clips] of [
    ["bal_train", 64],
    ["eval", 8],
  ] as const) {
    mkdirSync(join(folder, part), { recursive: true });
    const records = Array.from({ length: clips }, (_, number) => {
      const data = Uint8Array.from({ length: 1280 }, () => random.below(256));
      const context = { video_id: Buffer.from(`${part}${number}`), labels: [random.below(527), 526] };
      return encodeTfRecord(encodeSequenceExample({ context, frameLists: [{ name: "audio_embedding", frameBytes: 128, data }] }));
    });
    writeFileSync(join(folder, part, "00.tfrecord"), Buffer.concat(records));
  }
}
