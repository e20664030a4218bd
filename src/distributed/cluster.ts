import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";

/** The processes ("ranks") that compute each batch together: their addresses (`host:port`), by rank, and the rank of this one. */
export interface Cluster {
  readonly addresses: readonly string[];
  readonly rank: number;
}

/** The variable in which TensorFlow, Kubeflow and Vertex AI describe a cluster: JSON with the addresses and the task of this process. */
export const TF_CONFIG = "TF_CONFIG";

/**
 * Returns the cluster that the environment describes, in TF_CONFIG or in the variables that `srun` sets for each task; null for a process on its own. The chief
 * of TF_CONFIG, if there is one, is rank 0, and the workers follow. Throws BAD_CONFIG.
 */
export function readCluster(environment: NodeJS.ProcessEnv): Cluster | null {
  const text = environment[TF_CONFIG] ?? "";
  const cluster = text.trim() === "" ? readSlurm(environment) : parseTfConfig(text);
  return cluster === null || cluster.addresses.length === 1 ? null : cluster;
}

function invalid(key: string, expected: string, found: string): NextvladError {
  const remedy = `see docs/scale.md, or unset ${key === TF_CONFIG ? key : "SLURM_PROCID"} to train in one process`;
  return new NextvladError("BAD_CONFIG", "invalid cluster", { key, expected, found: showText(found), remedy });
}

function parseTfConfig(text: string): Cluster {
  let value: { readonly cluster?: Record<string, unknown>; readonly task?: { readonly type?: unknown; readonly index?: unknown } };
  try {
    value = JSON.parse(text) ?? {};
  } catch {
    throw invalid(TF_CONFIG, "JSON", text);
  }
  const { cluster, task } = value;
  const jobs = Object.keys(cluster ?? {}).filter((job) => job !== "evaluator");
  const other = jobs.find((job) => job !== "chief" && job !== "worker");
  if (other !== undefined) throw invalid(TF_CONFIG, 'the jobs "chief" and "worker" (there are no parameter servers)', other);
  const addressesOf = (job: string): readonly string[] => {
    const list = cluster?.[job] ?? [];
    if (!Array.isArray(list) || !list.every(isAddress))
      throw invalid(TF_CONFIG, `a list of host:port in cluster.${job}`, JSON.stringify(list));
    return list;
  };
  const [chief, workers] = [addressesOf("chief"), addressesOf("worker")];
  const addresses = [...chief, ...workers];
  if (addresses.length === 0) throw invalid(TF_CONFIG, "cluster.worker", text);
  const own = { chief, worker: workers }[String(task?.type)];
  const index = Number(task?.index);
  if (own?.[index] === undefined) throw invalid(TF_CONFIG, "a task of the cluster: its type and index", JSON.stringify(task) ?? "nothing");
  const repeated = addresses.find((address, i) => addresses.indexOf(address) !== i);
  if (repeated !== undefined) throw invalid(TF_CONFIG, "an address for each task", repeated);
  return { addresses, rank: own === workers ? chief.length + index : index };
}

function isAddress(value: unknown): value is string {
  return typeof value === "string" && /^[^\s/]+:\d{1,5}$/.test(value);
}

/** Ports of Slurm's tasks: each job has a range of its own, so that jobs that share a host seldom collide. */
const FIRST_PORT = 20_000;
const PORTS_PER_JOB = 64;
/** The ports end below those that Linux gives to outgoing connections (32768). */
const JOB_RANGES = 199;

/** Returns the cluster of `srun`'s tasks; null outside of a step with several tasks. Throws BAD_CONFIG. */
function readSlurm(environment: NodeJS.ProcessEnv): Cluster | null {
  const {
    SLURM_PROCID,
    SLURM_STEP_NUM_TASKS,
    SLURM_STEP_NODELIST,
    SLURM_STEP_TASKS_PER_NODE,
    SLURM_NODEID,
    SLURM_DISTRIBUTION = "block",
    SLURM_JOB_ID = "0",
  } = environment;
  const tasks = Number(SLURM_STEP_NUM_TASKS ?? 1);
  if (SLURM_PROCID === undefined || tasks === 1) return null;
  const nodes = expandNodes(SLURM_STEP_NODELIST ?? "");
  const perNode = expandCounts(SLURM_STEP_TASKS_PER_NODE ?? "");
  if (perNode.length !== nodes.length || perNode.reduce((sum, count) => sum + count, 0) !== tasks) {
    throw invalid("SLURM_STEP_TASKS_PER_NODE", `${tasks} tasks on ${nodes.length} nodes`, SLURM_STEP_TASKS_PER_NODE ?? "");
  }
  const first = FIRST_PORT + (Number(SLURM_JOB_ID) % JOB_RANGES) * PORTS_PER_JOB;
  const places = nodes.flatMap((name, node) =>
    Array.from({ length: perNode[node] as number }, (_, i) => ({ node, address: `${name}:${first + i}` })),
  );
  const tooMany = perNode.find((count) => count > PORTS_PER_JOB);
  if (tooMany !== undefined) throw invalid("SLURM_STEP_TASKS_PER_NODE", `at most ${PORTS_PER_JOB} tasks per node`, String(tooMany));
  // Set by `srun --distribution`: the order of nodes, then that of sockets and cores, as in `cyclic:block,pack`. All tasks must fail, or the others wait for those
  // that do. In any order, one task per node gives the same ranks.
  const [order] = SLURM_DISTRIBUTION.split(/[:,]/);
  if (order !== "block" && nodes.length > 1 && perNode.some((count) => count > 1)) {
    throw invalid("SLURM_DISTRIBUTION", "block, the default of srun --distribution", SLURM_DISTRIBUTION);
  }
  const rank = Number(SLURM_PROCID);
  const own = places[rank];
  if (own === undefined) throw invalid("SLURM_PROCID", `0 to ${tasks - 1}`, SLURM_PROCID);
  if (SLURM_NODEID !== undefined && Number(SLURM_NODEID) !== own.node)
    throw invalid("SLURM_NODEID", `${own.node}, as with srun --distribution=block`, SLURM_NODEID);
  return { addresses: places.map(({ address }) => address), rank };
}

/** Expands Slurm's list of nodes: `a[1-3,07],b` to `a1`, `a2`, `a3`, `a07`, `b`. */
function expandNodes(list: string): readonly string[] {
  const names = list.match(/[^,[\]]+(?:\[[^\]]*\][^,[\]]*)?/g) ?? [];
  return names.flatMap((name) => {
    const [, before = "", ranges, after = ""] = /^([^[]*)\[([^\]]*)\](.*)$/.exec(name) ?? [];
    if (ranges === undefined) return [name];
    return ranges.split(",").flatMap((range) => {
      const [from = "", to = from] = range.split("-");
      const count = Number(to) - Number(from) + 1;
      if (!Number.isInteger(count) || count < 1) throw invalid("SLURM_STEP_NODELIST", "a list such as node[1-3,7]", list);
      return Array.from({ length: count }, (_, i) => `${before}${String(Number(from) + i).padStart(from.length, "0")}${after}`);
    });
  });
}

/** Expands Slurm's list of counts: `2(x3),1` to 2, 2, 2, 1. */
function expandCounts(list: string): readonly number[] {
  return list.split(",").flatMap((item) => {
    const [, count, times = "1"] = /^(\d+)(?:\(x(\d+)\))?$/.exec(item) ?? [];
    if (count === undefined) throw invalid("SLURM_STEP_TASKS_PER_NODE", "a list such as 2(x3),1", list);
    return Array.from({ length: Number(times) }, () => Number(count));
  });
}
