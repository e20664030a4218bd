#!/usr/bin/env bash
# Trains the published recipe on YouTube-8M, and compares its accuracy with the published one. Run it again after a stop: it continues where it stopped.
#   scripts/reproduce-youtube8m.sh DATA OUT [FLAG...]
# DATA   has train*.tfrecord and validate*.tfrecord (frame-level, 2018), and eigenvals.npy
# OUT    receives the snapshots, the logs, the metrics, report.html, and summary.txt; after an error or a stop, pass the same one
# FLAG   is passed on to train, and overrides the recipe: --use-gpu True, --set TRAIN.batch_size=80
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cli=$root/dist/src/nextvlad.cjs

log() { printf '\nreproduce: %s\n' "$*" >&2; }
fail() { printf 'error[%s]: %s\n  help: %s\n' "$@" >&2; }
nextvlad() { node "$cli" "$@"; }

if [ $# -lt 2 ]; then
  fail BAD_USAGE "DATA and OUT are required" "scripts/reproduce-youtube8m.sh DATA OUT [FLAG...]"
  exit 2
fi
data=$1 out=$2
shift 2
if [ ! -f "$cli" ]; then
  fail NOT_SET_UP "$cli is missing" "run scripts/setup.sh, then npm run build"
  exit 1
fi
train_list=$data/train*.tfrecord validate_list=$data/validate*.tfrecord
checkpoints=$out/checkpoints best=$out/checkpoints/best
result=$out/evaluate_results/NEXTVLAD_eval_result.json
# The names, sizes and times of the shards.
list_shards() { find -L "$data" -maxdepth 1 \( -name 'train*.tfrecord' -o -name 'validate*.tfrecord' \) -printf '%f %s %T@\n' | sort; }

if [ ! -f "$data/eigenvals.npy" ]; then
  fail FILE_MISSING "$data/eigenvals.npy is missing" "curl http://data.yt8m.org/yt8m_pca.tgz | tar xz -C '$data'"
  exit 1
fi
mkdir -p "$out"

# Three snapshots of 1.07 GB, best, one that is being written, and 0.6 GB for logs and metrics. Later, train checks what is left to write.
needed_mb=6000
free_mb=$(df --output=avail -BMB "$out" | tail -1 | tr -dc 0-9)
if [ ! -d "$checkpoints" ] && [ "$free_mb" -lt "$needed_mb" ]; then
  fail FILE_UNWRITABLE "not enough disk space in $out (expected $needed_mb MB, found $free_mb MB)" "free disk space, or use another OUT"
  exit 1
fi

if [ -f "$out/verified.txt" ] && [ "$(list_shards)" = "$(cat "$out/verified.txt")" ]; then
  log "the shards have not changed since they were checked"
else
  log "checking every record of $(list_shards | wc -l) shards"
  shards=$(list_shards)
  nextvlad verify "$train_list" "$validate_list" >&2
  printf '%s\n' "$shards" >"$out/verified.txt"
fi

log "training, in $checkpoints"
nextvlad train --config "$root/configs/nextvlad.yaml" --use-gpu auto --save-interval 30m --keep 3 --save-dir "$checkpoints" --resume \
  --set "MODEL.eigen_file=$data/eigenvals.npy" --set "TRAIN.filelist=$train_list" --set "VALID.filelist=$validate_list" "$@" >&2

if [ "$result" -nt "$best/state.json" ]; then
  log "$best has been evaluated already"
else
  log "evaluating $best, the epoch with the highest validation GAP"
  nextvlad eval --weights "$best" --set TEST.use_gpu=auto --filelist "$validate_list" --save-dir "$out/evaluate_results" --resume >&2
fi

log "writing the report, $out/report.html"
nextvlad report "$checkpoints" "$out/evaluate_results" --out "$out/report.html" >&2

log "done; written to $out/summary.txt:"
node - "$result" "$best/state.json" "$@" <<'JS' | tee "$out/summary.txt"
const { readFileSync } = require("node:fs");
const [result, state, ...flags] = process.argv.slice(2);
const { hit_at_one, perr, gap, map, videos, aps } = JSON.parse(readFileSync(result, "utf8"));
const { step, epoch } = JSON.parse(readFileSync(state, "utf8"));
const rows = [
  ["", "this run", "published", "difference"],
  ["Hit@1", hit_at_one, 0.896],
  ["PERR", perr, 0.8132],
  ["GAP", gap, 0.8709],
  ["MAP", map],
].map(([name, found, published, difference]) => {
  if (name === "") return [name, found, published, difference];
  const values = [name, found.toFixed(4)];
  return published === undefined ? values : [...values, published.toFixed(4), (found >= published ? "+" : "") + (found - published).toFixed(4)];
});
for (const row of rows) process.stdout.write(`${row.map((cell) => cell.padEnd(12)).join("").trimEnd()}\n`);
process.stdout.write(`\nvideos      ${videos}, ${aps.length} classes\nweights     epochs: ${epoch}, steps: ${step}\n`);
if (flags.length > 0) process.stdout.write(`flags       ${flags.join(" ")}\n`);
JS
