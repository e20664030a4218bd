#!/usr/bin/env bash
# Takes the disk away from under train, eval, infer and convert: full, read-only, unmounted, removed, another run's. Prints a table in Markdown: what they
# said, their exit codes, what was left, and whether the command given again goes on to the same bytes.
# What needs root (mounting small file systems in memory) is skipped with a line that says so where there is none.
#   scripts/disk.sh            all cases
#   scripts/disk.sh WORDS      those with these words, like "results" or "second run"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/disk.js "$@"
