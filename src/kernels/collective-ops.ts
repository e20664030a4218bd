/** Wrappers of TensorFlow's collective ops, which all ranks of a cluster run in the same order: their names, attributes and inputs. */
import { type Attributes, flag, number, run, text, typeAttribute } from "../runtime/execution.js";
import { runtime, type Tensor, tidy } from "../runtime/runtime.js";
import { fromInts } from "../runtime/transfer.js";

/** All ranks are in one group. */
const GROUP = 1;

/** Identifies a collective op among those of a step: the ranks' tensors with the same key are combined. They have the same shape. */
export interface Collective {
  readonly ranks: number;
  readonly key: number;
  /** Maximum seconds to wait for the other ranks; 0 for no limit. */
  readonly timeoutSeconds: number;
}

/** Returns the ranks' tensors, float32 of at least one dimension, concatenated along the first one. */
export function allGather(x: Tensor, collective: Collective): Tensor {
  return runCollective("CollectiveGatherV2", x, collective, () => []);
}

/** Returns the sum of the ranks' tensors, float32: the same bytes on all ranks. */
export function allReduce(x: Tensor, collective: Collective): Tensor {
  return runCollective("CollectiveReduceV2", x, collective, (b) => [text(b, "merge_op", "Add"), text(b, "final_op", "Id")]);
}

function runCollective(name: string, x: Tensor, { ranks, key, timeoutSeconds }: Collective, attributes: Attributes): Tensor {
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
  return tidy(() => run(name, all, [x, ...[ranks, GROUP, key].map((value) => fromInts([value], []))]));
}
