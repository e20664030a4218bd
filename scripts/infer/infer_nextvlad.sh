#!/usr/bin/env bash
# Writes the most probable classes of each video, with the best snapshot of a training run. Arguments are passed on and override the defaults:
# scripts/infer/infer_nextvlad.sh --weights PATH --filelist LIST
# A snapshot contains its config; for other weights, give --config.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cli=$root/dist/src/nextvlad.cjs
if [ ! -f "$cli" ]; then
  printf 'error[NOT_SET_UP]: %s is missing\n  help: run scripts/setup.sh, then npm run build\n' "$cli" >&2
  exit 1
fi
exec node "$cli" infer --model-name NEXTVLAD --weights data/checkpoints/best \
  --infer-topk 20 --save-dir data/predict_results "$@"
