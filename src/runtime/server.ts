import { closeSync } from "node:fs";
import { NextvladError } from "../base/errors.js";

/** TensorFlow's server of one of several processes ("ranks") that compute together. */
export interface ServerOfRank {
  /** ServerDef (tensorflow/core/protobuf/tensorflow_server.proto). */
  readonly definition: Uint8Array;
  readonly ranks: number;
  readonly rank: number;
}

/** Passes the server to the binding (scripts/tensorflow/cluster.cc). */
export function setServerVariables({ definition, ranks, rank }: ServerOfRank): void {
  delete process.env.NEXTVLAD_SERVER_ERROR;
  process.env.NEXTVLAD_SERVER = Buffer.from(definition).toString("hex");
  process.env.NEXTVLAD_RANKS = `${ranks} ${rank}`;
  // TensorFlow logs a failed rank as an error, in several lines, before the op fails.
  if (process.env.TF_CPP_MIN_LOG_LEVEL === "2") process.env.TF_CPP_MIN_LOG_LEVEL = "3";
}

/** Starts the checks whether the other ranks respond; call it once all have connected. A rank that does not respond makes collective ops fail. */
export function checkRanks(): void {
  const pipe = process.env.NEXTVLAD_PIPE;
  delete process.env.NEXTVLAD_PIPE;
  if (pipe !== undefined) closeSync(Number(pipe));
}

/** Throws RANK_FAILED if the server could not be started. */
export function assertServing(): void {
  delete process.env.NEXTVLAD_SERVER;
  delete process.env.NEXTVLAD_RANKS;
  const error = process.env.NEXTVLAD_SERVER_ERROR;
  if (error === undefined) return;
  const remedy = "check that its port is not in use";
  throw new NextvladError("RANK_FAILED", `TensorFlow's server for this rank cannot be started: ${error}`, { remedy });
}
