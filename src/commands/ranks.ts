import { NextvladError } from "../base/errors.js";
import { chooseThreads } from "../base/threads.js";
import { type Cluster, readCluster } from "../distributed/cluster.js";
import { assignGpus } from "../distributed/devices.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { InferFlags } from "./flags.js";
import { printToStderr } from "./output.js";
import { ignoreSignals } from "./signals.js";

/** Returns the cluster in the environment; null for a process on its own. Throws BAD_CONFIG, or BAD_USAGE if --devices contradicts it. */
export function findCluster({ devices }: Pick<InferFlags, "devices">): Cluster | null {
  const cluster = readCluster(process.env);
  if (cluster === null || devices === undefined || devices === cluster.addresses.length) return cluster;
  const what = "the environment (TF_CONFIG or SLURM_*) describes a cluster with another number of processes";
  const values = { key: "--devices", expected: cluster.addresses.length, found: devices, remedy: "omit the flag" };
  throw new NextvladError("BAD_USAGE", what, values);
}

/** What `launch` divides among the processes. */
export interface LaunchSettings {
  readonly devices: number;
  readonly useGpu: boolean | "auto";
  /** The value of --threads, the number of each process; by default, they divide those of this host. */
  readonly threads: number | undefined;
  /** Arguments to add to those of this process. */
  readonly added?: readonly string[];
}

/** Runs this command once for each of several devices of this host; returns the exit code. Throws NO_DEVICE and NOT_SET_UP. */
export async function launch({ devices, useGpu, threads, added = [] }: LaunchSettings): Promise<number> {
  const { launchRanks } = await import("../distributed/launch.js");
  const gpus = assignGpus(devices, useGpu);
  const all = chooseThreads(null, (message) => printToStderr(`warning: ${message}`));
  const each = threads === undefined ? Math.max(1, Math.floor(all.count / devices)) : null;
  return launchRanks({ count: devices, gpus, threads: each, added, print: printToStderr });
}

/** Prepares the process of a rank other than 0: it ends when rank 0 does, so signals do not stop it. Returns telemetry that logs nothing. */
export async function silentTelemetry(): Promise<Telemetry> {
  const { createTelemetry } = await import("../telemetry/telemetry.js");
  void ignoreSignals();
  const telemetry = await createTelemetry({ logFile: null });
  telemetry.log.level = "silent";
  return telemetry;
}
