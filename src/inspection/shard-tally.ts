import type { ErrorCode, NextvladError, SerialisedError } from "../base/errors.js";
import { serialiseError } from "../base/errors.js";
import type { ShardPiece } from "./shard-check.js";

/** Results for a shard so far. */
export class ShardTally {
  readonly path: string;
  readonly sizeBytes: number;
  /** Bytes of the file checked so far; an estimate for a compressed file. */
  checkedBytes = 0;
  records = 0;
  videos = 0;
  frames = 0;
  unlabelled = 0;
  /** Videos with segment labels, which are not used. */
  segmented = 0;
  /** "unread": its end was not reached; "whole": read to its end; "broken": the rest after the last record cannot be read. */
  state: "unread" | "whole" | "broken" = "unread";
  /** Problems, at most LISTED_PROBLEMS. */
  readonly listed: SerialisedError[] = [];
  /** Number of problems by code, listed or not. */
  readonly problems = new Map<ErrorCode, number>();

  constructor(path: string, sizeBytes: number) {
    this.path = path;
    this.sizeBytes = sizeBytes;
  }

  get problemCount(): number {
    return [...this.problems.values()].reduce((sum, count) => sum + count, 0);
  }

  add(piece: ShardPiece): void {
    this.records += piece.records;
    this.videos += piece.videos;
    this.frames += piece.frames;
    this.unlabelled += piece.unlabelled;
    this.segmented += piece.segmented;
    this.listed.push(...piece.listed);
    for (const [code, count] of Object.entries(piece.problems)) this.#count(code as ErrorCode, count);
    if (piece.state === "more" || piece.state === "broken") this.checkedBytes = piece.filePosition;
    else this.checkedBytes = this.sizeBytes;
    if (piece.state === "end") this.state = "whole";
    if (piece.state === "broken") this.state = "broken";
  }

  /** Records that the thread that was reading the shard died. */
  fail(error: NextvladError): void {
    this.listed.push(serialiseError(error));
    this.#count(error.code, 1);
    this.state = "broken";
  }

  #count(code: ErrorCode, count: number): void {
    this.problems.set(code, (this.problems.get(code) ?? 0) + count);
  }
}
