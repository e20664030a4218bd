import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { readValidCluster } from "../../scripts/fuzz/targets/cluster.js";
import { NextvladError } from "../../src/base/errors.js";
import { readCluster } from "../../src/distributed/cluster.js";

const tfConfig = (value: unknown): NodeJS.ProcessEnv => ({ TF_CONFIG: JSON.stringify(value) });
const worker = ["a:1", "b:2", "c:3"];

function failure(environment: NodeJS.ProcessEnv): NextvladError {
  try {
    readCluster(environment);
  } catch (error) {
    assert.ok(error instanceof NextvladError, String(error));
    assert.equal(error.code, "BAD_CONFIG");
    return error;
  }
  return assert.fail("no error");
}

/** Reads a cluster, which must be valid, or BAD_CONFIG. */
function readOrReject(environment: NodeJS.ProcessEnv): void {
  try {
    readValidCluster(environment);
  } catch (error) {
    assert.ok(error instanceof NextvladError, String(error));
  }
}

describe("TF_CONFIG", () => {
  test("gives the addresses by rank; the chief is rank 0", () => {
    assert.deepEqual(readCluster(tfConfig({ cluster: { worker }, task: { type: "worker", index: 2 } })), { addresses: worker, rank: 2 });
    const cluster = { worker: worker.slice(1), chief: ["a:1"] };
    assert.deepEqual(readCluster(tfConfig({ cluster, task: { type: "chief", index: 0 } })), { addresses: worker, rank: 0 });
    assert.deepEqual(readCluster(tfConfig({ cluster, task: { type: "worker", index: 1 } })), { addresses: worker, rank: 2 });
    // Vertex AI and Kubeflow send the index as text, and other keys; Vertex may list an evaluator, which takes no part.
    const task = { type: "worker", index: "0", trial: "" };
    assert.equal(readCluster(tfConfig({ cluster: { ...cluster, evaluator: ["e:1"] }, task, environment: "cloud" }))?.rank, 1);
  });

  test("may have IPv6 addresses", () => {
    const addresses = ["[::1]:1", "[fe80::1]:65535"];
    assert.deepEqual(readCluster(tfConfig({ cluster: { worker: addresses }, task: { type: "worker", index: 0 } }))?.addresses, addresses);
  });

  test("of a single process, or empty, means no cluster", () => {
    for (const environment of [
      {},
      { TF_CONFIG: "" },
      { TF_CONFIG: " " },
      tfConfig({ cluster: { worker: ["a:1"] }, task: { type: "worker", index: 0 } }),
    ])
      assert.equal(readCluster(environment), null);
  });

  test("that is invalid is an error with the variable, what is expected and what is found", () => {
    for (const [value, message] of [
      [{ cluster: { worker, ps: ["p:1"] }, task: { type: "worker", index: 0 } }, /there are no parameter servers\), found ps/],
      [{ cluster: { worker: ["a"] }, task: { type: "worker", index: 0 } }, /a list of host:port in cluster\.worker, found \["a"\]/],
      [{ cluster: { worker: "a:1" }, task: { type: "worker", index: 0 } }, /a list of host:port/],
      [{ cluster: { worker: ["a:1", "a:1"] }, task: { type: "worker", index: 0 } }, /an address for each task, found a:1/],
      [{ cluster: {}, task: { type: "worker", index: 0 } }, /expected cluster\.worker/],
      [{ cluster: { worker }, task: { type: "worker", index: 3 } }, /a task of the cluster: its type and index/],
      [{ cluster: { worker }, task: { type: "chief", index: 0 } }, /a task of the cluster/],
      [{ cluster: { worker } }, /a task of the cluster/],
      [null, /expected cluster\.worker/],
    ] as const)
      assert.match(failure(tfConfig(value)).message, new RegExp(`^TF_CONFIG: invalid cluster .*${message.source}`));
    assert.match(failure({ TF_CONFIG: "{" }).message, /expected JSON, found \{/);
  });

  test("with any text either gives a valid cluster or BAD_CONFIG", () => {
    const anyAddress = fc.oneof(
      fc.string(),
      fc.tuple(fc.domain(), fc.nat(70_000)).map(([host, port]) => `${host}:${port}`),
    );
    const anyHosts = fc.record({ chief: fc.array(anyAddress, { maxLength: 1 }), worker: fc.array(anyAddress) }, { requiredKeys: [] });
    const anyTask = fc.record({ type: fc.constantFrom("worker", "chief", "__proto__"), index: fc.oneof(fc.nat(3), fc.anything()) });
    const anyConfig = fc.oneof(
      fc.string(),
      fc.json(),
      fc.record({ cluster: fc.object(), task: fc.anything() }).map((value) => JSON.stringify(value)),
      fc.record({ cluster: anyHosts, task: anyTask }).map((value) => JSON.stringify(value)),
    );
    fc.assert(fc.property(anyConfig, (TF_CONFIG) => readOrReject({ TF_CONFIG })));
  });

  test("that is hostile is an error", () => {
    const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    const task = { type: "worker", index: 0 };
    for (const [text, message] of [
      [`{"cluster": {"worker": ${deep}}, "task": {}}`, /found a list that is nested too deeply/],
      [`{"cluster": {"worker": ["a:1"]}, "task": ${deep}}`, /found a list that is nested too deeply/],
      [JSON.stringify({ cluster: { worker }, task: { type: { toString: 1 }, index: 0 } }), /a task of the cluster/],
      [JSON.stringify({ cluster: { worker }, task: { type: "worker", index: { valueOf: 1, toString: 1 } } }), /a task of the cluster/],
      [JSON.stringify({ cluster: { worker }, task: { type: "worker", index: null } }), /a task of the cluster/],
      ...["a:0", "a:00001", "a:65536", "a:1,b", "::1:1", "[:::]:1", "[a.b]:1", "a b:1", "a\u001b:1", "//a:1"].map(
        (address) => [JSON.stringify({ cluster: { worker: [address] }, task }), /a list of host:port/] as const,
      ),
    ] as const)
      assert.match(failure({ TF_CONFIG: text }).message, message, text.slice(0, 200));
    const many = Array.from({ length: 20_000 }, (_, i) => `h${i}:1`);
    const sinceMs = performance.now();
    assert.equal(readCluster(tfConfig({ cluster: { worker: many }, task }))?.addresses.length, 20_000);
    // A comparison of all pairs takes a second.
    assert.ok(performance.now() - sinceMs < 500);
  });
});

describe("Slurm's variables", () => {
  const step = {
    SLURM_JOB_ID: "1203",
    SLURM_PROCID: "3",
    SLURM_STEP_NUM_TASKS: "5",
    SLURM_STEP_NODELIST: "gpu[08-09],login",
    SLURM_STEP_TASKS_PER_NODE: "2(x2),1",
  };

  test("give an address for each task, with a range of ports for each job", () => {
    const addresses = ["gpu08:20576", "gpu08:20577", "gpu09:20576", "gpu09:20577", "login:20576"];
    assert.deepEqual(readCluster(step), { addresses, rank: 3 });
    assert.equal(readCluster({ ...step, SLURM_JOB_ID: "1204" })?.addresses[0], "gpu08:20640");
  });

  test("of a job without a step, or of a step with one task, mean no cluster", () => {
    const { SLURM_PROCID: _, ...job } = step;
    assert.equal(readCluster(job), null);
    assert.equal(readCluster({ ...step, SLURM_STEP_NUM_TASKS: "1" }), null);
    assert.equal(readCluster({ ...step, ...tfConfig({ cluster: { worker }, task: { type: "worker", index: 1 } }) })?.rank, 1);
  });

  test("that contradict each other are an error", () => {
    assert.match(failure({ ...step, SLURM_STEP_TASKS_PER_NODE: "2(x3)" }).message, /expected 5 tasks on 3 nodes, found 2\(x3\)/);
    assert.match(failure({ ...step, SLURM_STEP_TASKS_PER_NODE: "two" }).message, /a list such as 2\(x3\),1, found two/);
    assert.match(failure({ ...step, SLURM_STEP_NODELIST: "gpu[9-8],login" }).message, /a list such as node\[1-3,7\]/);
    assert.match(failure({ ...step, SLURM_NODEID: "0" }).message, /expected 1, as with srun --distribution=block, found 0/);
    assert.equal(readCluster({ ...step, SLURM_NODEID: "1" })?.rank, 3);
    const distribution = (SLURM_DISTRIBUTION: string, PER_NODE = "2(x2),1") => ({
      ...step,
      SLURM_DISTRIBUTION,
      SLURM_STEP_TASKS_PER_NODE: PER_NODE,
    });
    assert.match(failure(distribution("cyclic:cyclic,pack")).message, /SLURM_DISTRIBUTION: .*expected block, .*, found cyclic:cyclic,pack/);
    assert.match(failure(distribution("plane")).message, /found plane/);
    assert.equal(readCluster(distribution("block:cyclic"))?.rank, 3);
    const spread = { SLURM_STEP_NUM_TASKS: "3", SLURM_PROCID: "2" };
    assert.equal(readCluster({ ...distribution("cyclic", "1(x3)"), ...spread })?.addresses[2], "login:20576");
    const crowded = { SLURM_STEP_NUM_TASKS: "66", SLURM_STEP_NODELIST: "a", SLURM_STEP_TASKS_PER_NODE: "66" };
    assert.match(failure({ ...step, ...crowded }).message, /expected at most 64 tasks per node, found 66/);
    assert.match(failure({ ...step, SLURM_PROCID: "5" }).message, /SLURM_PROCID: .*expected 0 to 4, found 5/);
  });

  test("that are hostile are an error, without using much memory", () => {
    for (const [variables, message] of [
      [{ SLURM_STEP_NODELIST: "a[0-999999999]" }, /at most one node for each of 5 tasks, found a\[0-999999999\]/],
      [{ SLURM_STEP_NODELIST: "a[1-2]b[1-2],c" }, /names of hosts/],
      [{ SLURM_STEP_NODELIST: "a[1-2" }, /names of hosts/],
      [{ SLURM_STEP_NODELIST: "a[],b,c" }, /a list such as node\[1-3,7\]/],
      [{ SLURM_STEP_NODELIST: "a,b,a" }, /names of hosts, each once/],
      [{ SLURM_STEP_NODELIST: "a,,b" }, /names of hosts/],
      [{ SLURM_STEP_NODELIST: "a b,c,d" }, /names of hosts/],
      [{ SLURM_STEP_NODELIST: undefined }, /SLURM_STEP_NODELIST: .*names of hosts, each once, found/],
      [{ SLURM_STEP_TASKS_PER_NODE: "1(x9999999999)" }, /a count for each of 3 nodes/],
      [{ SLURM_STEP_TASKS_PER_NODE: "5,0,0" }, /a list such as 2\(x3\),1/],
      [{ SLURM_STEP_NUM_TASKS: "9999999999" }, /at most 10000/],
      [{ SLURM_STEP_NUM_TASKS: "1e9" }, /SLURM_STEP_NUM_TASKS: .*an integer, found 1e9/],
      [{ SLURM_PROCID: "1.5" }, /SLURM_PROCID: .*an integer/],
      [{ SLURM_PROCID: "" }, /SLURM_PROCID: .*an integer/],
      [{ SLURM_JOB_ID: "9".repeat(400) }, /SLURM_JOB_ID: .*an integer/],
    ] as const)
      assert.match(failure({ ...step, ...variables }).message, message, JSON.stringify(variables));
  });

  test("with any values either give a valid cluster or BAD_CONFIG", () => {
    const text = fc.oneof(fc.string(), fc.nat().map(String), fc.stringMatching(/^[a-c0-2[\],\-(x)]{0,16}$/));
    const values = fc.record(Object.fromEntries([...Object.keys(step), "SLURM_NODEID", "SLURM_DISTRIBUTION"].map((key) => [key, text])), {
      requiredKeys: [],
    });
    fc.assert(fc.property(values, (changed) => readOrReject({ ...step, ...changed })));
  });
});
