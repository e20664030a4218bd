#!/usr/bin/env bash
# Records the output of the demo in docs/run.txt, then updates the image and the README.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rm -rf demo
{
  echo '$ npm run demo'
  scripts/demo.sh 2>&1
} | tee docs/run.txt
npm run docs
