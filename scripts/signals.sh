#!/usr/bin/env bash
# Sends SIGTERM to train, eval, infer and convert, and kill -9 to eval and infer, at random moments on a busy machine. The same command run again must
# produce the files of an undisturbed run, byte for byte. Prints a Markdown table.
#   scripts/signals.sh            20 times each (kill -9: 5)
#   scripts/signals.sh TIMES      TIMES times each (kill -9: a quarter)
#   SEED=N scripts/signals.sh     the random delays of an earlier run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/signals.js "$@"
