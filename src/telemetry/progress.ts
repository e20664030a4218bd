import { type Options, type Params, Presets, SingleBar } from "cli-progress";

/** How far a loop is, and how it fares. */
export interface ProgressState {
  /** Done, 0 to 1. */
  readonly fraction: number;
  readonly videosPerSecond: number;
  readonly secondsLeft: number;
  /** Of a training, whose fraction is that of all its epochs. */
  readonly epoch?: number;
  readonly loss?: number;
  readonly gap?: number;
  /** Share of the time spent waiting for data, 0 to 1; the rest went into computing. */
  readonly waitShare?: number;
  /** Of shards on disk, in 10^6 bytes. */
  readonly megabytesPerSecond?: number;
  /** Found so far. */
  readonly problems?: number;
}

/** A loop's progress, for the eyes of whoever watches it. */
export interface Progress {
  begin(title: string): void;
  update(state: ProgressState): void;
  end(): void;
}

/** A progress that lets other text pass. */
export interface Screen extends Progress {
  /** Writes whole lines; a bar steps aside for them. */
  print(lines: string): void;
}

/** The bar goes to a terminal only, and not to one that a build server pretends to be. */
export function createScreen(stream: NodeJS.WriteStream): Screen {
  const watched = stream.isTTY === true && (process.env.CI ?? "") === "" && !isDumb();
  return watched ? new Bar(stream) : new Plain(stream);
}

/** Whether the terminal knows no control sequences, nor colours. */
export function isDumb(): boolean {
  return process.env.TERM === "dumb";
}

class Plain implements Screen {
  readonly #stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  begin(): void {}
  update(): void {}
  end(): void {}

  print(lines: string): void {
    this.#stream.write(lines);
  }
}

const ERASE_LINE = "\r\u001b[K";
/** At its end the bar takes the cursor back to where it was saved: that place moves with the lines printed meanwhile. */
const SAVE_CURSOR = "\u001b7";
const SCALE = 1000;
/** Columns of the bar itself. */
const [MIN_BAR, MAX_BAR] = [6, 24];
const DEFAULT_COLUMNS = 80;

class Bar implements Screen {
  readonly #stream: NodeJS.WriteStream;
  #bar: SingleBar | null = null;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  begin(title: string): void {
    this.end();
    // A process that is killed must leave the terminal as it was: neither the cursor nor the wrapping of lines is touched.
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
 * The bar's line, as much of it as fits the terminal: the bar shrinks first, then the last facts go, then the bar, then the title's end. Two columns stay free for
 * the `^C` that a terminal shows: it must not wrap the line, which then could not be erased.
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

/** What stands beside the bar, the most important first: `epoch 2`, `812 videos/s`, `1:04:09 left`, `loss 4.51`, `GAP 0.871`, `12% waiting for data`. */
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

/** Seconds as `m:ss` or `h:mm:ss`; `-` while they are not known. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return "-";
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const pad = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}
