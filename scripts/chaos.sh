#!/usr/bin/env bash
# Kills training (kill -9) at random moments and resumes it until it completes. The weights must equal those of an undisturbed run, byte for byte.
#   scripts/chaos.sh            100 kills
#   scripts/chaos.sh KILLS      KILLS kills
#   SEED=N scripts/chaos.sh     the random delays of an earlier run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/kills.js "$@"
