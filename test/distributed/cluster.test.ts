import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
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

  test("with any text either gives a cluster or BAD_CONFIG", () => {
    const anyConfig = fc.oneof(
      fc.string(),
      fc.json(),
      fc.record({ cluster: fc.object(), task: fc.anything() }).map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(anyConfig, (TF_CONFIG) => {
        try {
          const cluster = readCluster({ TF_CONFIG });
          assert.ok(cluster === null || cluster.addresses[cluster.rank] !== undefined);
        } catch (error) {
          assert.ok(error instanceof NextvladError && error.code === "BAD_CONFIG", String(error));
        }
      }),
    );
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
});
