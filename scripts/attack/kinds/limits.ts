import type { Attempt } from "../attempt.js";
import { CONFIG, LIST, RESULTS, SNAPSHOT } from "../base.js";

const RUN = ["--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "out"];
const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  version: ["version"],
  verify: ["verify", LIST, "--config", CONFIG],
  convert: ["convert", "--to", "pkl", "--filelist", LIST, "--out", "out"],
  inspect: ["inspect", SNAPSHOT],
  ensemble: ["ensemble", `${RESULTS}.pkl`, "--save-dir", "out"],
  export: ["export", "--weights", SNAPSHOT, "--format", "npz", "--out", "out/x.npz"],
  infer: ["infer", ...RUN],
  train: ["train", "--config", CONFIG, "--save-dir", "out"],
};

const shown = (args: readonly string[], shell: string, rest: Pick<Attempt, "kind" | "name">): Attempt => ({
  ...rest,
  args,
  shell,
  mayKillNode: true,
});

/** Limits by `ulimit` option: open files, address space in KB, file size in KB, stack in KB, locked memory. */
const LIMITS: readonly (readonly [option: string, values: readonly (number | string)[], commands: readonly string[]])[] = [
  ["n", [16, 24, 32, 48, 64, 96], ["version", "verify", "convert", "infer", "train"]],
  ["v", [1_000_000, 2_000_000, 3_000_000, 6_000_000, 12_000_000], ["version", "verify", "infer", "train"]],
  ["f", [0, 1, 8], ["convert", "export", "infer", "train", "ensemble"]],
  ["s", [128, 1024, "unlimited"], ["verify", "infer", "inspect"]],
  ["l", [0], ["infer"]],
];

export const limitAttempts: readonly Attempt[] = [
  ...LIMITS.flatMap(([option, values, commands]) =>
    values.flatMap((value) =>
      commands.map((command) =>
        shown(COMMANDS[command] as readonly string[], `ulimit -${option} ${value}; exec "$@"`, {
          kind: "limit",
          name: `ulimit -${option} ${value}: ${command}`,
        }),
      ),
    ),
  ),
  shown(["verify", LIST, "--config", CONFIG, "--readers", "64"], 'ulimit -n 64; exec "$@"', {
    kind: "limit",
    name: "64 readers with 64 files",
  }),
  shown(["convert", "--to", "pkl", "--filelist", LIST, "--out", "out", "--workers", "256"], 'ulimit -n 64; exec "$@"', {
    kind: "limit",
    name: "256 workers with 64 files",
  }),
];
