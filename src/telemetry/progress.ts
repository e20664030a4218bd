import { type Options, type Params, Presets, SingleBar } from "cli-progress";
import { DEFAULT_COLUMNS } from "../base/wrap.js";

/** Progress and speed of a loop. */
export interface ProgressState {
  /** Fraction done, 0 to 1. */
  readonly fraction: number;
  readonly videosPerSecond: number;
  readonly secondsLeft: number;
  /** Training only; `fraction` is then that of all epochs. */
  readonly epoch?: number;
  readonly loss?: number | undefined;
  readonly gap?: number | undefined;
  /** Share of the time spent waiting for data, 0 to 1; the rest is computation. */
  readonly waitShare?: number;
  /** Read speed of shards on disk, in 10^6 bytes per second. */
  readonly megabytesPerSecond?: number;
  /** Number of problems found so far. */
  readonly problems?: number;
}

/** Shows the progress of a loop. */
export interface Progress {
  start(title: string): void;
  update(state: ProgressState): void;
  end(): void;
}

/** A progress display that can print other text. */
export interface Screen extends Progress {
  /** Writes whole lines; a bar is redrawn below them. */
  print(lines: string): void;
}

/** Returns a screen with a progress bar if the stream is a terminal, and not in CI, with TERM=dumb or `quiet`; otherwise one that only prints text. */
export function createScreen(stream: NodeJS.WriteStream, quiet = false): Screen {
  const watched = stream.isTTY === true && (process.env.CI ?? "") === "" && !isDumb() && !quiet;
  return watched ? new Bar(stream) : new Plain(stream);
}

/** Returns whether the terminal supports neither control sequences nor colors. */
export function isDumb(): boolean {
  return process.env.TERM === "dumb";
}

class Plain implements Screen {
  readonly #stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  start(): void {}
  update(): void {}
  end(): void {}

  print(lines: string): void {
    this.#stream.write(lines);
  }
}

const ERASE_LINE = "\r\u001b[K";
/** The bar restores the saved cursor position at its end, so the position must be saved again after other lines are printed. */
const SAVE_CURSOR = "\u001b7";
const SCALE = 1000;
/** Minimum and maximum width of the bar itself, in columns. */
const [MIN_BAR, MAX_BAR] = [6, 24];

class Bar implements Screen {
  readonly #stream: NodeJS.WriteStream;
  #bar: SingleBar | null = null;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  start(title: string): void {
    this.end();
    // Cursor and line wrapping are left unchanged: a killed process could not restore them.
    const look = {
      format: (_options: Options, { progress }: Params, { facts }: { facts: readonly string[] }) =>
        fitLine(title, progress, facts, this.#stream.columns ?? DEFAULT_COLUMNS),
      stream: this.#stream,
      hideCursor: false,
      linewrap: true,
      clearOnComplete: true,
      gracefulExit: false,
      forceRedraw: true,
    };
    this.#bar = new SingleBar(look, Presets.shades_classic);
    this.#bar.start(SCALE, 0, { facts: [] });
  }

  update(state: ProgressState): void {
    this.#bar?.update(Math.floor(state.fraction * SCALE), { facts: formatFacts(state) });
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = null;
  }

  print(lines: string): void {
    if (this.#bar === null) this.#stream.write(lines);
    else {
      this.#stream.write(ERASE_LINE + lines + SAVE_CURSOR);
      this.#bar.render();
    }
  }
}

/**
 * Formats the bar's line to fit the terminal: the bar shrinks first, then the last facts are dropped, then the bar, then the end of the title. Two columns stay
 * free for the `^C` that a terminal echoes: if it wrapped the line, the line could not be erased.
 */
export function fitLine(title: string, fraction: number, facts: readonly string[], columns: number): string {
  const width = Math.max(0, columns - 2);
  const percentage = `${Math.floor(fraction * 100)}%`;
  for (let count = facts.length; count >= 0; count--) {
    const tail = [percentage, ...facts.slice(0, count)].join(" | ");
    const room = width - title.length - tail.length - 2;
    if (room < MIN_BAR) continue;
    const size = Math.min(MAX_BAR, room);
    const done = Math.round(fraction * size);
    return `${title} ${"█".repeat(done)}${"░".repeat(size - done)} ${tail}`;
  }
  return `${title} ${percentage}`.slice(0, width);
}

/** Formats the facts beside the bar, most important first: `epoch 2`, `812 videos/s`, `1:04:09 left`, `loss 4.51`, `GAP 0.871`, `12% waiting for data`. */
export function formatFacts(state: ProgressState): readonly string[] {
  const rate = state.videosPerSecond >= 10 ? state.videosPerSecond.toFixed(0) : state.videosPerSecond.toFixed(1);
  const facts = [`${rate} videos/s`, `${formatDuration(state.secondsLeft)} left`];
  if (state.epoch !== undefined) facts.unshift(`epoch ${state.epoch}`);
  if (state.loss !== undefined) facts.push(`loss ${state.loss.toPrecision(3)}`);
  if (state.gap !== undefined) facts.push(`GAP ${state.gap.toFixed(3)}`);
  if (state.waitShare !== undefined) facts.push(`${(state.waitShare * 100).toFixed(0)}% waiting for data`);
  if (state.megabytesPerSecond !== undefined) facts.push(`${state.megabytesPerSecond.toFixed(0)} MB/s`);
  if (state.problems !== undefined) facts.push(`problems ${state.problems}`);
  return facts;
}

/** Formats seconds as `m:ss` or `h:mm:ss`; `-` if unknown. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return "-";
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const pad = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

/** A stream of batches whose reading is timed. */
export interface PacedStream {
  /** Fraction that was read, 0 to 1. */
  readonly fraction: number;
  /** Milliseconds spent waiting for data. */
  readonly waitedMs: number;
}

/** Measures a loop over a stream: videos per second, remaining time, and the share of time spent waiting for data. */
export class Pace {
  readonly #stream: PacedStream;
  readonly #startMs = performance.now();
  /** The share of a longer run that comes before this stream, and the share of the stream itself. */
  readonly #before: number;
  readonly #share: number;
  readonly #startFraction: number;
  #videos = 0;
  /** Time that was spent on something else. */
  #excludedMs = 0;

  /** `part` is the position of the stream in a longer run: epoch 2 of 6 is `{ index: 2, count: 6 }`. `startFraction` of the stream was processed before. */
  constructor(stream: PacedStream, part = { index: 0, count: 1 }, startFraction = 0) {
    this.#stream = stream;
    this.#startFraction = startFraction;
    this.#before = part.index / part.count;
    this.#share = 1 / part.count;
  }

  /** Adds a finished batch. */
  count(videos: number): void {
    this.#videos += videos;
  }

  /** Excludes time in which the loop did something else. */
  exclude(ms: number): void {
    this.#excludedMs += ms;
  }

  state(): ProgressState & { readonly waitShare: number } {
    const seconds = (performance.now() - this.#startMs - this.#excludedMs) / 1000;
    const { fraction, waitedMs } = this.#stream;
    const done = (fraction - this.#startFraction) * this.#share;
    const total = this.#before + fraction * this.#share;
    return {
      fraction: total,
      videosPerSecond: this.#videos / seconds,
      secondsLeft: done > 0 ? (seconds / done) * (1 - total) : Number.POSITIVE_INFINITY,
      waitShare: Math.min(1, waitedMs / 1000 / seconds),
    };
  }

  /** Returns the state for the JSON log. */
  facts(): { readonly videos_per_second: number; readonly seconds_left: number; readonly wait_share: number } {
    const { videosPerSecond, secondsLeft, waitShare } = this.state();
    return { videos_per_second: videosPerSecond, seconds_left: secondsLeft, wait_share: waitShare };
  }

  /** Formats the state: "312.4 videos/s, 3 % waiting for data". */
  describe(): string {
    const { videosPerSecond, waitShare } = this.state();
    return `${videosPerSecond.toFixed(1)} videos/s, ${(100 * waitShare).toFixed(0)} % waiting for data`;
  }
}
