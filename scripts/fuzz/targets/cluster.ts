import { NextvladError } from "../../../src/base/errors.js";
import { readCluster } from "../../../src/distributed/cluster.js";
import type { Target } from "../target.js";

/** Reads a cluster. Throws an Error that counts as a finding if the error is another one than BAD_CONFIG, or if the cluster is invalid. */
export function readValidCluster(environment: NodeJS.ProcessEnv): void {
  let cluster: ReturnType<typeof readCluster>;
  try {
    cluster = readCluster(environment);
  } catch (error) {
    if (error instanceof NextvladError && error.code !== "BAD_CONFIG") throw new Error(`unexpected code ${error.code}`);
    throw error;
  }
  if (cluster === null) return;
  const { addresses, rank } = cluster;
  if (addresses.length < 2 || new Set(addresses).size !== addresses.length)
    throw new Error(`not several addresses, each once: ${addresses}`);
  if (!Number.isInteger(rank) || rank < 0 || rank >= addresses.length) throw new Error(`rank ${rank} of ${addresses.length}`);
  for (const address of addresses) {
    // An independent parser. It has another form for IPv6 addresses, and for all that is not plain.
    const { host, hostname, port } = new URL(`tcp://${address}`);
    const isPlain = host === address || (hostname.startsWith("[") && address.endsWith(`]:${port}`));
    if (hostname === "" || port === "" || port === "0" || !isPlain) throw new Error(`not host:port: ${address}`);
  }
}

/** Parses variables, one per line: `NAME=value`. */
function parseEnvironment(text: string): NodeJS.ProcessEnv {
  return Object.fromEntries(text.split("\n").map((line) => line.split(/=(.*)/s, 2)));
}

export const target: Target = {
  readers: [
    (_, bytes) => readValidCluster(parseEnvironment(Buffer.from(bytes).toString("utf8"))),
    (_, bytes) => readValidCluster({ TF_CONFIG: Buffer.from(bytes).toString("utf8") }),
  ],
};
