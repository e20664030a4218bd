import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeDirectory, writeFileAtomic } from "../../src/base/files.js";
import { encodeNpz } from "../../src/formats/tensors/npz.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { parameterTable } from "../../src/model/network.js";
import { WeightStore } from "../../src/model/weights.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { loadGolden } from "../../test/helpers/golden.js";
import { writeGoldenSnapshot } from "../../test/helpers/golden-snapshot.js";

/**
 * Makes the inputs of check_paddle.py and check_readers.py: the golden weights as a snapshot, exported in every format, and `case.npz` with a batch of
 * five videos and our probabilities. Usage: node dist/scripts/export/make-case.js OUT, from the repository's root.
 */
const [out] = process.argv.slice(2);
if (out === undefined) throw new Error("usage: make-case.js OUT");
const DROP_RATE = 0.3;
const golden = loadGolden("small");
const { sizes, batch } = golden;
await makeDirectory(out);
const snapshot = join(out, "snapshot");
await writeGoldenSnapshot(snapshot, golden, { dropRate: DROP_RATE });

const cli = fileURLToPath(new URL("../../src/nextvlad.cjs", import.meta.url));
for (const [format, name] of [
  ["pdparams", "W"],
  ["paddle-vars", "vars"],
  ["safetensors", "W.safetensors"],
  ["npz", "W.npz"],
  ["onnx", "W.onnx"],
] as const) {
  const args = ["export", "--weights", snapshot, "--format", format, "--out", join(out, name)];
  const { status } = spawnSync(process.execPath, [cli, ...args], { stdio: "inherit" });
  if (status !== 0) throw new Error(`nextvlad ${args.join(" ")} ended with ${status}`);
}

await loadTensorflow(false);
const table = parameterTable(sizes);
const store = new WeightStore(table);
for (const { name } of table) store.variable(name).upload(golden.weights.get(name)?.values as Float32Array);
const network = new FrozenNetwork(sizes, { descriptor: DROP_RATE, hidden: 0 }, store, chooseKernels());
const probabilities = tidy(() => toFloats(network.probabilities(batch)));
const videos = batch.frameCounts.length;
const arrays = [
  { name: "rgb", shape: [batch.rgb.length / 1024, 1024], data: batch.rgb },
  { name: "audio", shape: [batch.audio.length / 128, 128], data: batch.audio },
  { name: "frame_counts", shape: [videos], data: BigInt64Array.from(batch.frameCounts, BigInt) },
  { name: "probabilities", shape: [videos, sizes.classes], data: probabilities },
];
await writeFileAtomic(join(out, "case.npz"), encodeNpz(arrays));
