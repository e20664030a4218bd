#!/usr/bin/env bash
# Sends SIGTERM to train, eval, infer and convert, and kill -9 to eval and infer, at random moments on a busy machine; the same command again must end in
# the bytes of an undisturbed one. Prints a table in Markdown.
#   scripts/signals.sh            20 times each (kill -9: 5)
#   scripts/signals.sh TIMES      so many (kill -9: a quarter)
#   SEED=N scripts/signals.sh     the moments of an earlier run again
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/signals.js "$@"
