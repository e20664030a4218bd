import { createRandom, type Random } from "../base/random.js";
import type { RaggedBatch } from "./video.js";

/** A weight of 1, in the integers that frames are mixed with. */
const ONE = 2 ** 16;

/** Which mixes are drawn: with weights from Beta(alpha, alpha), for an epoch of the run. */
export interface Mixup {
  readonly alpha: number;
  readonly epoch: number;
}

/** How a video is mixed: with the video at index `partner` of its batch; its own weight is `weight` / 2^16, its partner's the rest. */
export interface Mix {
  readonly partner: number;
  readonly weight: number;
}

/**
 * Draws how each of `videos` videos of a batch is mixed (mixup, arXiv:1710.09412): the partners are the next videos in a random circle, so each is another video and
 * each is a partner once; the weights are from Beta(alpha, alpha), drawn for each video. A pure function of its arguments; `batch` is an index in the epoch.
 */
export function drawMixes(videos: number, { alpha, epoch }: Mixup, seed: number, batch: number): readonly Mix[] {
  const random = createRandom(seed, "mixup", epoch, batch);
  const circle = random.shuffle(Array.from({ length: videos }, (_, video) => video));
  const partners = new Int32Array(videos);
  for (const [i, video] of circle.entries()) partners[video] = circle[(i + 1) % videos] as number;
  return Array.from(partners, (partner) => ({ partner, weight: Math.round(ONE * drawBeta(alpha, random)) }));
}

/**
 * Returns `count` mixed videos of a batch, from `first` on. `batch` has the features of all videos. A mixed video has the ID and the number of frames of its own
 * video; its frame t is the weighted sum of its own frame t and of its partner's frame t modulo the partner's number of frames, rounded to bytes, because
 * dequantization is linear. Its labels are those of both videos, with the same weights. `allocate` returns memory for at least that many bytes.
 */
export function mixVideos(
  { ids, frameCounts, labels, ...features }: RaggedBatch,
  mixes: readonly Mix[],
  { first, count }: { readonly first: number; readonly count: number },
  allocate: (modality: "rgb" | "audio", bytes: number) => Uint8Array,
): RaggedBatch {
  const offsets = [0];
  for (const frames of frameCounts) offsets.push((offsets.at(-1) as number) + frames);
  const own = mixes.slice(first, first + count);
  const [begin, end] = [offsets[first] as number, offsets[first + count] as number];
  const mixModality = (modality: "rgb" | "audio"): Uint8Array => {
    const bytes = features[modality];
    const frameBytes = bytes.length / (offsets.at(-1) as number);
    const of = (video: number): Uint8Array =>
      bytes.subarray((offsets[video] as number) * frameBytes, (offsets[video + 1] as number) * frameBytes);
    const mixed = allocate(modality, (end - begin) * frameBytes).subarray(0, (end - begin) * frameBytes);
    for (const [i, { partner, weight }] of own.entries()) {
      mixBytes(of(first + i), of(partner), weight, mixed.subarray(((offsets[first + i] as number) - begin) * frameBytes));
    }
    return mixed;
  };
  const mixedLabels = own.map(({ partner, weight }, i) => mixLabels(labels[first + i] ?? NO_LABELS, labels[partner] ?? NO_LABELS, weight));
  return {
    ids: ids.slice(first, first + count),
    frameCounts: frameCounts.slice(first, first + count),
    rgb: mixModality("rgb"),
    audio: mixModality("audio"),
    labels: mixedLabels.map(([classes]) => classes),
    labelWeights: mixedLabels.map(([, weights]) => weights),
  };
}

const NO_LABELS = new Int32Array(0);

/** Sets `mixed` to the weighted sum of `own` and `partner`, which is repeated as often as necessary. */
function mixBytes(own: Uint8Array, partner: Uint8Array, weight: number, mixed: Uint8Array): void {
  const rest = ONE - weight;
  for (let begin = 0; begin < own.length; begin += partner.length) {
    const end = Math.min(own.length, begin + partner.length);
    for (let i = begin; i < end; i++) {
      mixed[i] = ((own[i] as number) * weight + (partner[i - begin] as number) * rest + ONE / 2) >> 16;
    }
  }
}

/** Returns the labels of both videos, ascending, and their weights. */
function mixLabels(own: Int32Array, partner: Int32Array, weight: number): readonly [Int32Array, Float32Array] {
  const classes = Int32Array.from(new Set([...own, ...partner])).sort();
  const share = weight / ONE;
  return [classes, Float32Array.from(classes, (label) => (own.includes(label) ? share : 0) + (partner.includes(label) ? 1 - share : 0))];
}

/** Draws from Beta(alpha, alpha): X / (X + Y) of two Gamma(alpha) variates, whose logarithms neither underflow nor overflow. */
function drawBeta(alpha: number, random: Random): number {
  return 1 / (1 + Math.exp(drawLogGamma(alpha, random) - drawLogGamma(alpha, random)));
}

/**
 * Draws the logarithm of a Gamma(alpha) variate by Marsaglia and Tsang's method (ACM Transactions on Mathematical Software 26, 2000), which needs a shape of at least
 * 1: a Gamma(alpha) variate is one of Gamma(alpha + 1) times U^(1 / alpha), for U uniform in (0, 1).
 */
function drawLogGamma(alpha: number, random: Random): number {
  const boost = Math.log(drawUniform(random)) / alpha;
  const d = alpha + 1 - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    // Box and Muller's normal variate.
    const x = Math.sqrt(-2 * Math.log(drawUniform(random))) * Math.cos(2 * Math.PI * drawUniform(random));
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(drawUniform(random)) < x ** 2 / 2 + d - d * v + d * Math.log(v)) return Math.log(d * v) + boost;
  }
}

/** Draws a number in (0, 1). */
function drawUniform(random: Random): number {
  return (random.below(2 ** 30) + 0.5) / 2 ** 30;
}
