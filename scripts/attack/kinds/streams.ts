import type { Attempt, ExitStatus } from "../attempt.js";
import { CONFIG, LIST, RESULTS, SNAPSHOT } from "../base.js";

const RUN = ["--weights", SNAPSHOT, "--filelist", LIST, "--save-dir", "out"];
const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  train: ["train", "--config", CONFIG, "--save-dir", "out", "--log-interval", "1"],
  eval: ["eval", ...RUN],
  infer: ["infer", ...RUN],
  convert: ["convert", "--to", "pkl", "--filelist", LIST, "--out", "out"],
  verify: ["verify", LIST, "--config", CONFIG],
  inspect: ["inspect", SNAPSHOT],
  ensemble: ["ensemble", `${RESULTS}.pkl`, "--save-dir", "out"],
  export: ["export", "--weights", SNAPSHOT, "--format", "npz", "--out", "out/x.npz"],
  digits: ["digits", "--out", "out", "--train-videos", "2", "--validate-videos", "2"],
  version: ["version"],
  "train --help": ["train", "--help"],
};

/** Broken standard streams, by description. */
const STREAMS: Readonly<Record<string, readonly [shell: string, exits: readonly ExitStatus[]]>> = {
  "stdin closed": ['exec "$@" <&-', [0]],
  "stdout closed": ['exec "$@" >&-', [0, 1]],
  "stderr closed": ['exec "$@" 2>&-', [0, 1]],
  "all closed": ['exec "$@" <&- >&- 2>&-', [0, 1]],
  "stdout on a full disk": ['exec "$@" > /dev/full', [0, 1]],
  "stderr on a full disk": ['exec "$@" 2> /dev/full', [0, 1]],
  "stdout without a reader": ['set -o pipefail; "$@" | true', [0, 1]],
  "stderr without a reader": ['set -o pipefail; "$@" 2>&1 > /dev/null | true', [0, 1]],
  "stdin is a directory": ['exec "$@" < /', [0]],
};

/** Files that a command must write even if its output is lost. */
const MADE: Readonly<Record<string, string>> = {
  train: "out/NEXTVLAD_epoch0/state.json",
  infer: "out/NEXTVLAD_infer_result.pkl",
  eval: "out/NEXTVLAD_eval_result.json",
};

export const streamAttempts: readonly Attempt[] = Object.entries(STREAMS).flatMap(([name, [shell, exits]]) =>
  Object.entries(COMMANDS).map(([command, args]): Attempt => {
    const made = MADE[command];
    // If the file is missing, exit with a code that is never expected.
    const checked = made === undefined ? shell : `(${shell}); code=$?; [ -e ${made} ] || code=99; exit $code`;
    return { kind: "stream", name: `${name}: ${command}`, args, shell: checked, exits };
  }),
);
