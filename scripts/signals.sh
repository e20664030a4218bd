#!/usr/bin/env bash
# Sends SIGTERM to train, eval and infer at random moments on a busy machine; the same command again must end in the bytes of an undisturbed one.
#   scripts/signals.sh            20 times each
#   scripts/signals.sh TIMES      so many
#   SEED=N scripts/signals.sh     the moments of an earlier run again
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/signals.js "$@"
