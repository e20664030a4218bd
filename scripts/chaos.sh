#!/usr/bin/env bash
# Kills training (kill -9) at random moments and resumes it until it is done; the weights must equal an undisturbed run's, byte for byte, each time.
#   scripts/chaos.sh            100 kills
#   scripts/chaos.sh KILLS      so many
#   SEED=N scripts/chaos.sh     the moments of an earlier run again
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/kills.js "$@"
