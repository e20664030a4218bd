import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { readCluster } from "../../src/distributed/cluster.js";
import { codeBlocks } from "./pages.js";

interface Manifest {
  readonly kind: string;
  readonly spec: {
    readonly completions: number;
    readonly template: {
      readonly spec: { readonly containers: readonly [{ readonly command: readonly string[]; readonly args: readonly [string] }] };
    };
  };
}

test("each pod of the Kubernetes manifest makes a valid TF_CONFIG", () => {
  const [manifest] = codeBlocks("docs/scale.md").filter(({ language }) => language === "yaml");
  const documents = parseAllDocuments(manifest?.code ?? "").map((document) => document.toJS() as Manifest);
  const job = documents.find(({ kind }) => kind === "Job");
  assert.ok(job);
  const { completions, template } = job.spec;
  const [{ command, args }] = template.spec.containers;
  const [program = "", ...options] = command;
  const script = args[0].replace(/^exec nextvlad .*$/m, 'printf %s "$TF_CONFIG"');
  for (let index = 0; index < completions; index++) {
    const { stdout, status } = spawnSync(program, [...options, script], { env: { ...process.env, JOB_COMPLETION_INDEX: String(index) } });
    assert.equal(status, 0);
    const addresses = Array.from({ length: completions }, (_, pod) => `nextvlad-${pod}.nextvlad:2222`);
    assert.deepEqual(readCluster({ TF_CONFIG: String(stdout) }), { addresses, rank: index });
  }
});
