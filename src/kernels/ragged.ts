import { NextvladError } from "../base/errors.js";
import { slice } from "../kernels/tensorflow-ops.js";
import type { Tensor } from "../runtime/tensor.js";
import { fromInts } from "../runtime/transfer.js";

/** The layout of a batch: the frames of its videos, concatenated. */
export class RaggedLayout {
  readonly frameCounts: Int32Array;
  /** The index of each video's first frame. */
  readonly offsets: Int32Array;
  /** Number of frames of all videos. */
  readonly frames: number;

  /** Throws BAD_VIDEO if a video has no frames. */
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

  /** Returns the index of each frame's video: `[frames] int32`, sorted. */
  segments(): Tensor {
    const segments = new Int32Array(this.frames);
    for (const [video, offset] of this.offsets.entries()) segments.fill(video, offset, offset + (this.frameCounts[video] as number));
    return fromInts(segments, [this.frames]);
  }

  /**
   * Returns one video's rows of `[frames * rowsPerFrame, columns]`. TensorFlow's Slice along the first axis shares the memory if a row is a multiple of
   * 64 bytes.
   */
  rowsOf(x: Tensor, video: number, rowsPerFrame: number): Tensor {
    const columns = x.shape[1] as number;
    const begin = (this.offsets[video] as number) * rowsPerFrame;
    return slice(x, [begin, 0], [(this.frameCounts[video] as number) * rowsPerFrame, columns]);
  }
}
