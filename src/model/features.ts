import { FLOAT_TERMS, multiplyBytes, multiplyBytesTransposed, splitWeights } from "../tensorflow/byte-kernels.js";
import { fill } from "../tensorflow/constants.js";
import { addBias, matMul } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { byteCarrier } from "../tensorflow/transfer.js";
import { release, type Weights } from "./block.js";
import { dequantise, quantisation } from "./dequantise.js";
import type { StreamSizes } from "./sizes.js";

/** The features x of a batch, `[frames, F]`: what a training step multiplies with. */
export interface Features {
  /** x w, plus `bias` `[columns]` where there is one: `[frames, columns]` for w `[F, columns]`. */
  times(w: Tensor, bias?: Tensor): Tensor;
  /** x^T d: `[F, columns]` for d `[frames, columns]`. */
  transposedTimes(d: Tensor): Tensor;
  dispose(): void;
}

/** The features that bytes `[frames, F] uint8` from the host stand for, multiplied in the way that is fastest here. */
export function featuresOf(bytes: Uint8Array, frames: number, stream: StreamSizes, weights: Weights): Features {
  return weights.kernels.byteFeatures(frames)
    ? byteFeatures(bytes, frames, stream, weights)
    : floatFeatures(dequantise(bytes, frames, stream, weights));
}

/** Features that are floats already, `[frames, F]`, taken over. */
export function floatFeatures(x: Tensor): Features {
  return {
    times: (w, bias) => (bias === undefined ? matMul(x, w) : tidy(() => addBias(matMul(x, w), bias))),
    transposedTimes: (d) => matMul(x, d, { transposeA: true }),
    dispose: () => x.dispose(),
  };
}

/** They stay bytes: a quarter of the memory, and products that cost 3/4 of a float's at a float's precision. */
function byteFeatures(bytes: Uint8Array, frames: number, stream: StreamSizes, weights: Weights): Features {
  const carrier = byteCarrier(bytes, frames * stream.features);
  const { scale, offset } = quantisation(stream, weights);
  return {
    times: (w, bias) =>
      tidy(() => {
        const panels = splitWeights(w, bias ?? fill([w.shape[1] as number], 0), { scale, offset }, 1, FLOAT_TERMS);
        return multiplyBytes(carrier, frames, panels);
      }),
    transposedTimes: (d) => multiplyBytesTransposed(carrier, d, { scale, offset }),
    dispose: () => release(carrier, scale, offset),
  };
}
