#!/usr/bin/env bash
# Makes the disk of train, eval, infer and convert fail: full, read-only, unmounted, removed or used by another run. Prints a Markdown table of the error
# messages, the exit codes, the remaining files, and whether the same command run again resumes to the same results, byte for byte.
# Cases that need root (to mount small tmpfs file systems) are skipped without it, and a line reports this.
#   scripts/disk.sh            all cases
#   scripts/disk.sh TEXT       cases whose name contains TEXT, such as "results" or "second run"
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
npm run --silent build
exec node dist/scripts/chaos/disk.js "$@"
