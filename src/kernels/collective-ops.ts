/**
 * Wrappers of TensorFlow's collective ops, which all ranks of a cluster start in the same order: their names, attributes and inputs. The binding runs them in a
 * thread, one after another (scripts/tensorflow/collectives.cc).
 */
import { type Attributes, flag, number, run, text, typeAttribute } from "../runtime/execution.js";
import { runtime } from "../runtime/runtime.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { fromInts, scalar, toFloats } from "../runtime/transfer.js";

/** All ranks are in one group. */
const GROUP = 1;

/** Identifies a collective op among those of a step: the ranks' tensors with the same key are combined. They have the same shape. */
export interface Collective {
  readonly ranks: number;
  readonly key: number;
  /** Maximum seconds to wait for the other ranks; 0 for no limit. */
  readonly timeoutSeconds: number;
}

/** The number of a collective op that runs in the binding's thread. */
export type Started = number;

/** Starts to concatenate the ranks' tensors, float32 of at least one dimension, along the first one. Borrows x. */
export function startAllGather(x: Tensor, collective: Collective): Started {
  return start("CollectiveGatherV2", x, collective, () => []);
}

/** Starts to add up the ranks' tensors, float32: the sum is the same bytes on all ranks. Borrows x. */
export function startAllReduce(x: Tensor, collective: Collective): Started {
  return start("CollectiveReduceV2", x, collective, (b) => [text(b, "merge_op", "Add"), text(b, "final_op", "Id")]);
}

/** Waits for a collective op, once, and returns its output, float32. Throws KERNEL_FAILED. */
export function awaitCollective(started: Started): Tensor {
  return tidy(() => run("NextvladAwait", () => [], [scalar(started)]));
}

function start(name: string, x: Tensor, { ranks, key, timeoutSeconds }: Collective, attributes: Attributes): Started {
  // "ring" is TensorFlow's own implementation, over gRPC.
  const hint = runtime().device.kind === "gpu" ? "nccl" : "ring";
  const all: Attributes = (b) => [
    typeAttribute("T", "float32")(b),
    text(b, "communication_hint", hint),
    number(b, "timeout_seconds", timeoutSeconds),
    flag(b, "is_stateless", false),
    { name: "Nordering_token", type: b.TF_ATTR_INT, value: 0 },
    ...attributes(b),
  ];
  return tidy(() => toFloats(run(name, all, [x, ...[ranks, GROUP, key].map((value) => fromInts([value], []))]))[0] as number);
}
