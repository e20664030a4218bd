import { NextvladError } from "../base/errors.js";
import { slice } from "../kernels/tensorflow-ops.js";
import type { Tensor } from "../runtime/runtime.js";
import { fromInts } from "../runtime/transfer.js";

/** How the frames of a batch's videos lie back to back. */
export class RaggedLayout {
  readonly frameCounts: Int32Array;
  /** Where each video's frames begin. */
  readonly offsets: Int32Array;
  /** Frames of all videos. */
  readonly frames: number;

  /** Throws BAD_VIDEO for a video without frames. */
  constructor(frameCounts: Int32Array) {
    this.frameCounts = frameCounts;
    this.offsets = new Int32Array(frameCounts.length);
    let frames = 0;
    for (const [video, count] of frameCounts.entries()) {
      if (count < 1) throw new NextvladError("BAD_VIDEO", `video ${video} of the batch has no frames`);
      this.offsets[video] = frames;
      frames += count;
    }
    this.frames = frames;
  }

  get videos(): number {
    return this.frameCounts.length;
  }

  /** The video that each frame belongs to: `[frames] int32`, rising. */
  segments(): Tensor {
    const segments = new Int32Array(this.frames);
    for (const [video, offset] of this.offsets.entries()) segments.fill(video, offset, offset + (this.frameCounts[video] as number));
    return fromInts(segments, [this.frames]);
  }

  /**
   * One video's rows of `[frames * rowsPerFrame, columns]`. TensorFlow's Slice over the first axis shares the memory
   * where rows are a multiple of 64 bytes.
   */
  rowsOf(x: Tensor, video: number, rowsPerFrame: number): Tensor {
    const columns = x.shape[1] as number;
    const begin = (this.offsets[video] as number) * rowsPerFrame;
    return slice(x, [begin, 0], [(this.frameCounts[video] as number) * rowsPerFrame, columns]);
  }
}
