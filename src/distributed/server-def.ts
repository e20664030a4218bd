import { concat, field, stringField, varintField } from "../formats/protobuf/writer.js";
import type { ServerOfRank } from "../runtime/server.js";
import type { Cluster } from "./cluster.js";

const JOB = "worker";

/**
 * Returns TensorFlow's server of this rank, with its ServerDef: fields cluster 1, job_name 2, task_index 3, default_session_config 4 and protocol 5
 * (tensorflow/core/protobuf/tensorflow_server.proto, cluster.proto and config.proto, tag v2.21.0). The first rank leads the groups of collective ops.
 */
export function serverOf({ addresses, rank }: Cluster): ServerOfRank {
  const tasks = addresses.map((address, task) => field(2, concat([varintField(1, task), stringField(2, address)])));
  const job = concat([stringField(1, JOB), ...tasks]);
  const leader = stringField(1, `/job:${JOB}/replica:0/task:0`);
  const sessionConfig = field(16, leader);
  const fields = [field(1, field(1, job)), stringField(2, JOB), varintField(3, rank), field(4, sessionConfig), stringField(5, "grpc")];
  return { definition: Buffer.concat(concat(fields).pieces), ranks: addresses.length, rank };
}
