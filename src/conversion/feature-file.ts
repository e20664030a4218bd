import { fileError, NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { listFirst } from "../base/problem-list.js";
import { showText } from "../base/shown-value.js";
import type { FeatureBytes } from "../data/video.js";
import { type NpyArray, readNpy } from "../formats/tensors/npy.js";
import { readNpz } from "../formats/tensors/npz.js";
import { NO_VALUES, quantise, refuseNotFinite, type ValueRange, type ValueStatistics } from "./quantise.js";

/** The features of one modality of a video from its own file, as bytes. */
export interface FileFeature {
  readonly feature: FeatureBytes;
  /** Statistics of the values that were quantized. */
  readonly statistics: ValueStatistics;
}

/**
 * Reads `[frames, size]` from a .npy file, or from a .npz file: the array of that name, or the only one. The format is detected from the content. uint8 is used
 * as it is; float16, float32 and float64 are quantized.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, BAD_VIDEO (another shape or type, or NaN or Inf).
 */
export async function readFeatureFile(file: string, name: string, range: ValueRange): Promise<FileFeature> {
  const { shape, data } = await readArray(file, name);
  const [frames, frameBytes] = shape;
  if (shape.length !== 2 || frames === undefined || !frameBytes) {
    const remedy = "save an array of one row a frame, also where there is one frame";
    throw new NextvladError("BAD_VIDEO", `the ${name} array has another shape`, {
      file,
      expected: "[frames, size]",
      found: `[${shape.join(", ")}]`,
      remedy,
    });
  }
  if (data instanceof Uint8Array) return { feature: { frames, frameBytes, data }, statistics: NO_VALUES };
  if (!(data instanceof Float32Array || data instanceof Float64Array)) {
    const remedy = "save it as float32 features, or as uint8 if these are bytes already";
    throw new NextvladError("BAD_VIDEO", `the ${name} array is of integers wider than a byte`, { file, remedy });
  }
  refuseNotFinite(data, frameBytes, name, { file });
  const { bytes, statistics } = quantise(data, range);
  return { feature: { frames, frameBytes, data: bytes }, statistics };
}

async function readArray(file: string, name: string): Promise<NpyArray> {
  if (!(await isZip(file))) return readNpy(file);
  return readNpz(file, (names) => {
    const [only] = names;
    if (names.includes(name)) return name;
    if (names.length === 1 && only !== undefined) return only;
    throw new NextvladError("BAD_VIDEO", `the file has no array named ${name}`, {
      file,
      found:
        names.length === 0
          ? "no array"
          : listFirst(
              names.map((each) => showText(each)),
              { shown: 8 },
            ),
      remedy: `name it in numpy.savez(file, ${name}=...), or save it alone`,
    });
  });
}

async function isZip(file: string): Promise<boolean> {
  try {
    const handle = await openInput(file);
    try {
      const { buffer } = await handle.read(new Uint8Array(2), 0, 2, 0);
      return buffer[0] === 0x50 && buffer[1] === 0x4b;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(error, file, "read");
  }
}
