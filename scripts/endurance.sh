#!/usr/bin/env bash
# Trains on digits for a long time and samples the process: memory, open files and threads must stay within 5 %, and no file or thread may leak.
#   scripts/endurance.sh                  2,000 steps, then 20 epochs with validation and snapshots
#   scripts/endurance.sh STEPS EPOCHS     STEPS steps, then EPOCHS epochs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/endurance.js "$@"
