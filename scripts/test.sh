#!/usr/bin/env bash
# Set-up, build, tests: all that a fresh clone needs. Arguments go to Node's test runner, like --test-name-pattern GAP.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
npm run --silent build
# Node 20's runner takes no globs, and 22's no folders: name the files.
mapfile -t files < <(find dist/test -name '*.test.js' | sort)
exec node --test --test-concurrency=2 "$@" "${files[@]}"
