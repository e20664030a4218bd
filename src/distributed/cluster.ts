import { isIPv6 } from "node:net";
import { NextvladError } from "../base/errors.js";
import { showText, showValue } from "../base/shown-value.js";

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
  let value: { readonly cluster?: unknown; readonly task?: unknown } | null;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid(TF_CONFIG, "JSON", text);
  }
  const jobs = (value?.cluster ?? {}) as Readonly<Record<string, unknown>>;
  const other = Object.keys(jobs).find((job) => job !== "chief" && job !== "worker" && job !== "evaluator");
  if (other !== undefined) throw invalid(TF_CONFIG, 'the jobs "chief" and "worker" (there are no parameter servers)', other);
  const addressesOf = (job: string): readonly string[] => {
    const list = jobs[job] ?? [];
    if (!Array.isArray(list) || !list.every(isAddress)) throw invalid(TF_CONFIG, `a list of host:port in cluster.${job}`, showValue(list));
    return list;
  };
  const [chief, workers] = [addressesOf("chief"), addressesOf("worker")];
  const addresses = [...chief, ...workers];
  if (addresses.length === 0) throw invalid(TF_CONFIG, "cluster.worker", text);
  const { type, index } = (value?.task ?? {}) as { readonly type?: unknown; readonly index?: unknown };
  // Some systems write the index as text.
  const number = typeof index === "string" && /^\d+$/.test(index) ? Number(index) : index;
  const own = type === "chief" ? chief : workers;
  const isTask = (type === "chief" || type === "worker") && typeof number === "number" && own[number] !== undefined;
  if (!isTask) throw invalid(TF_CONFIG, "a task of the cluster: its type and index", showValue(value?.task ?? null));
  const repeated = findRepeated(addresses);
  if (repeated !== undefined) throw invalid(TF_CONFIG, "an address for each task", repeated);
  return { addresses, rank: own === workers ? chief.length + number : number };
}

const MAX_PORT = 65_535;

/** Whether a value is `host:port`; the host is a name, an IPv4 address, or an IPv6 address in brackets. */
function isAddress(value: unknown): value is string {
  const [, name, ip, port] = (typeof value === "string" && /^(?:([\w.-]+)|\[([\da-f:.]+)\]):([1-9]\d{0,4})$/i.exec(value)) || [];
  return (name !== undefined || isIPv6(ip ?? "")) && Number(port) <= MAX_PORT;
}

function findRepeated(names: readonly string[]): string | undefined {
  const seen = new Set<string>();
  return names.find((name) => seen.size === seen.add(name).size);
}

/** Ports of Slurm's tasks: each job has a range of its own, so that jobs that share a host seldom collide. */
const FIRST_PORT = 20_000;
const PORTS_PER_JOB = 64;
/** The ports end below those that Linux gives to outgoing connections (32768). */
const JOB_RANGES = 199;
const MAX_TASKS = 10_000;

/** Returns the cluster of `srun`'s tasks; null outside of a step with several tasks. Throws BAD_CONFIG. */
function readSlurm(environment: NodeJS.ProcessEnv): Cluster | null {
  const { SLURM_PROCID, SLURM_STEP_NODELIST = "", SLURM_STEP_TASKS_PER_NODE = "", SLURM_DISTRIBUTION = "block" } = environment;
  if (SLURM_PROCID === undefined) return null;
  const integerOf = (key: string, missing: number): number => {
    const text = environment[key] ?? String(missing);
    if (!/^\d{1,10}$/.test(text)) throw invalid(key, "an integer", text);
    return Number(text);
  };
  const tasks = integerOf("SLURM_STEP_NUM_TASKS", 1);
  if (tasks <= 1) return null;
  if (tasks > MAX_TASKS) throw invalid("SLURM_STEP_NUM_TASKS", `at most ${MAX_TASKS}`, String(tasks));
  const nodes = expandNodes(SLURM_STEP_NODELIST, tasks);
  const perNode = expandCounts(SLURM_STEP_TASKS_PER_NODE, nodes.length);
  if (perNode.length !== nodes.length || perNode.reduce((sum, count) => sum + count, 0) !== tasks) {
    throw invalid("SLURM_STEP_TASKS_PER_NODE", `${tasks} tasks on ${nodes.length} nodes`, SLURM_STEP_TASKS_PER_NODE);
  }
  const tooMany = perNode.find((count) => count > PORTS_PER_JOB);
  if (tooMany !== undefined) throw invalid("SLURM_STEP_TASKS_PER_NODE", `at most ${PORTS_PER_JOB} tasks per node`, String(tooMany));
  // Set by `srun --distribution`: the order of nodes, then that of sockets and cores, as in `cyclic:block,pack`. All tasks must fail, or the others wait for those
  // that do. In any order, one task per node gives the same ranks.
  const [order] = SLURM_DISTRIBUTION.split(/[:,]/);
  if (order !== "block" && nodes.length > 1 && perNode.some((count) => count > 1)) {
    throw invalid("SLURM_DISTRIBUTION", "block, the default of srun --distribution", SLURM_DISTRIBUTION);
  }
  const first = FIRST_PORT + (integerOf("SLURM_JOB_ID", 0) % JOB_RANGES) * PORTS_PER_JOB;
  const places = nodes.flatMap((name, node) =>
    Array.from({ length: perNode[node] as number }, (_, i) => ({ node, address: `${name}:${first + i}` })),
  );
  const rank = integerOf("SLURM_PROCID", 0);
  const own = places[rank];
  if (own === undefined) throw invalid("SLURM_PROCID", `0 to ${tasks - 1}`, SLURM_PROCID);
  const node = integerOf("SLURM_NODEID", own.node);
  if (node !== own.node) throw invalid("SLURM_NODEID", `${own.node}, as with srun --distribution=block`, String(node));
  return { addresses: places.map(({ address }) => address), rank };
}

/** Expands Slurm's list of nodes: `a[1-3,07],b` to `a1`, `a2`, `a3`, `a07`, `b`. Throws BAD_CONFIG, also if there are more than `maxNodes`. */
function expandNodes(list: string, maxNodes: number): readonly string[] {
  const nodes: string[] = [];
  const add = (count: number, nameOf: (i: number) => string): void => {
    if (nodes.length + count > maxNodes) throw invalid("SLURM_STEP_NODELIST", `at most one node for each of ${maxNodes} tasks`, list);
    for (let i = 0; i < count; i++) nodes.push(nameOf(i));
  };
  const items = list.replace(/\[[^[\]]*\]/g, (ranges) => ranges.replaceAll(",", ";")).split(",");
  for (const item of items) {
    const [, before = "", ranges, after = ""] = /^([^[\]]*)(?:\[([^[\]]*)\]([^[\]]*))?$/.exec(item) ?? [];
    for (const range of ranges?.split(";") ?? []) {
      const [, from = "", to = from] = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(range) ?? [];
      const count = Number(to) - Number(from) + 1;
      if (from === "" || count < 1) throw invalid("SLURM_STEP_NODELIST", "a list such as node[1-3,7]", list);
      add(count, (i) => before + String(Number(from) + i).padStart(from.length, "0") + after);
    }
    if (ranges === undefined) add(1, () => item);
  }
  const areHosts = nodes.every((name) => isAddress(`${name}:${FIRST_PORT}`));
  if (!areHosts || findRepeated(nodes) !== undefined) throw invalid("SLURM_STEP_NODELIST", "names of hosts, each once", list);
  return nodes;
}

/** Expands Slurm's list of counts: `2(x3),1` to 2, 2, 2, 1. Throws BAD_CONFIG, also if there are more than `nodes`. */
function expandCounts(list: string, nodes: number): readonly number[] {
  const counts: number[] = [];
  for (const item of list.split(",")) {
    const [, count, times = "1"] = /^([1-9]\d{0,9})(?:\(x(\d{1,10})\))?$/.exec(item) ?? [];
    if (count === undefined) throw invalid("SLURM_STEP_TASKS_PER_NODE", "a list such as 2(x3),1", list);
    if (counts.length + Number(times) > nodes) throw invalid("SLURM_STEP_TASKS_PER_NODE", `a count for each of ${nodes} nodes`, list);
    for (let i = 0; i < Number(times); i++) counts.push(Number(count));
  }
  return counts;
}
