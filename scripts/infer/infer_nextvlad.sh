#!/usr/bin/env bash
# Writes the likeliest classes of each video, by the best snapshot of a training. Arguments are passed on, and win:
# scripts/infer/infer_nextvlad.sh --weights PATH --filelist LIST
# The snapshot brings its config; weights that carry none need --config.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cli=$root/dist/src/nextvlad.cjs
if [ ! -f "$cli" ]; then
  printf 'error[NOT_SET_UP]: %s is missing\n  help: run scripts/setup.sh, then npm run build\n' "$cli" >&2
  exit 1
fi
exec node "$cli" infer --model-name NEXTVLAD --weights data/checkpoints/best \
  --infer-topk 20 --save-dir data/predict_results "$@"
