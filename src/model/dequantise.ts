import { add, fromBytes, fromFloats, multiply } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import type { Weights } from "./block.js";
import type { StreamSizes } from "./sizes.js";

/** YouTube-8M's quantisation maps [-2, 2] to a byte, so one step is 4/255. */
const STEP = Math.fround(4 / 255);
const VIDEO_OFFSET = Math.fround(-2);
/** PaddleVideo adds half a quantum (of 512) for audio only, and its weights expect it. */
const AUDIO_OFFSET = Math.fround(-2 + 4 / 512);

/**
 * The one place where bytes become features: `rgb = (u * 4/255 - 2) * eigen_param`, `audio = u * 4/255 - 2 + 4/512`
 * (PaddleVideo v1.5.1, models/nextvlad/nextvlad.py), as u * scale + offset.
 * `[frames, features] uint8` from the host to `[frames, features] float32` on the device.
 */
export function dequantise(bytes: Uint8Array, frames: number, stream: StreamSizes, weights: Weights): Tensor {
  return tidy(() => {
    const { features } = stream;
    const x = fromBytes(bytes, frames, features);
    const scale = fromFloats(Float32Array.of(STEP), [1]);
    const offset = fromFloats(Float32Array.of(stream.name === "video" ? VIDEO_OFFSET : AUDIO_OFFSET), [1]);
    if (stream.name === "audio") return add(multiply(x, scale), offset);
    return weights.use("eigen_param", (eigen) => {
      const scaled = multiply(x, multiply(scale, eigen));
      x.dispose();
      return add(scaled, multiply(offset, eigen));
    });
  });
}
