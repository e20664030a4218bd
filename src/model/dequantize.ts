import { multiply } from "../kernels/tensorflow-ops.js";
import type { Quantization } from "../kernels/types.js";
import { constant, fill } from "../runtime/constants.js";
import { tidy } from "../runtime/tensor.js";
import type { ModalitySizes } from "./sizes.js";
import type { Weights } from "./weights.js";

/** YouTube-8M's quantization maps [-2, 2] to a byte, so one step is 4/255. */
export const STEP = Math.fround(4 / 255);
export const RGB_OFFSET = Math.fround(-2);
/** PaddleVideo adds half a quantum (of 512) for audio only, and its weights expect it. */
export const AUDIO_OFFSET = Math.fround(-2 + 4 / 512);

/**
 * Returns the scale and offset `[F] float32` that map bytes u to features u * scale + offset: `rgb = (u * 4/255 - 2) * eigen_param`, `audio = u * 4/255 - 2 + 4/512`
 * (PaddleVideo v1.5.1, models/nextvlad/nextvlad.py). The caller owns the tensors.
 */
export function quantizationOf({ name, features }: ModalitySizes, weights: Weights): Quantization {
  return tidy(() => {
    if (name === "audio") return { scale: fill([features], STEP), offset: fill([features], AUDIO_OFFSET) };
    return weights.use("eigen_param", (eigen) => ({
      scale: multiply(eigen, constant(STEP)),
      offset: multiply(eigen, constant(RGB_OFFSET)),
    }));
  });
}
