#!/usr/bin/env bash
# Trains with the published recipe, on a GPU if one works, else on the CPU. Arguments are passed on and override the defaults:
# scripts/train/train_nextvlad.sh --use_gpu False
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cli=$root/dist/src/nextvlad.cjs
if [ ! -f "$cli" ]; then
  printf 'error[NOT_SET_UP]: %s is missing\n  help: run scripts/setup.sh, then npm run build\n' "$cli" >&2
  exit 1
fi
exec node "$cli" train --model-name NEXTVLAD --config "$root/configs/nextvlad.yaml" \
  --use-gpu auto --valid-interval 1 --log-interval 10 --save-dir data/checkpoints "$@"
