#!/usr/bin/env bash
# Takes the disk away from under running commands: full, read-only, unmounted, removed, another run's. Prints what they said and what was left.
# What needs root (mounting small file systems in memory) is skipped with a line that says so where there is none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/disk.js "$@"
