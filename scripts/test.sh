#!/usr/bin/env bash
# Sets up, builds and tests a fresh clone. Arguments are passed to Node's test runner, for example --test-name-pattern GAP.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup.sh
npm run --silent build
# Node 20's test runner does not support globs and Node 22's does not support folders, so pass the files.
mapfile -t files < <(find dist/test -name '*.test.js' | sort)
exec node --test --test-concurrency=2 "$@" "${files[@]}"
