#!/usr/bin/env bash
# Trains digits for long, and looks at the process all the while: memory, open files and threads within 5 %, and none of the files and threads left behind.
#   scripts/endurance.sh                  2,000 steps, then 20 epochs with validation and snapshots
#   scripts/endurance.sh STEPS EPOCHS     so many
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/endurance.js "$@"
