import type { Quantisation } from "../tensorflow/byte-kernels.js";
import { constant, fill } from "../tensorflow/constants.js";
import { dequantiseFused } from "../tensorflow/fused-kernels.js";
import { add, fromBytes, multiply } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import type { Weights } from "./block.js";
import type { StreamSizes } from "./sizes.js";

/** YouTube-8M's quantisation maps [-2, 2] to a byte, so one step is 4/255. */
export const STEP = Math.fround(4 / 255);
export const VIDEO_OFFSET = Math.fround(-2);
/** PaddleVideo adds half a quantum (of 512) for audio only, and its weights expect it. */
export const AUDIO_OFFSET = Math.fround(-2 + 4 / 512);

/**
 * The one place where bytes become features: `rgb = (u * 4/255 - 2) * eigen_param`, `audio = u * 4/255 - 2 + 4/512`
 * (PaddleVideo v1.5.1, models/nextvlad/nextvlad.py), as u * scale + offset.
 * `[frames, features] uint8` from the host to `[frames, features] float32` on the device.
 */
export function dequantise(bytes: Uint8Array, frames: number, stream: StreamSizes, weights: Weights): Tensor {
  return tidy(() => {
    const { scale, offset } = quantisation(stream, weights);
    if (weights.kernels.fused) return dequantiseFused(bytes, scale, offset, frames);
    return add(multiply(fromBytes(bytes, frames, stream.features), scale), offset);
  });
}

/** What the stream's bytes stand for. */
export function quantisation({ name, features }: StreamSizes, weights: Weights): Quantisation {
  if (name === "audio") return { scale: fill([features], STEP), offset: fill([features], AUDIO_OFFSET) };
  return weights.use("eigen_param", (eigen) => ({
    scale: multiply(eigen, constant(STEP)),
    offset: multiply(eigen, constant(VIDEO_OFFSET)),
  }));
}
