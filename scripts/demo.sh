#!/usr/bin/env bash
# Trains, evaluates and infers on videos of handwritten digits (MNIST), from a fresh clone. All files are written to demo/.
#   scripts/demo.sh         seed 0, in demo/
#   scripts/demo.sh SEED    another seed, for the videos and for training, in demo/seed-SEED/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seed=${1:-0}
case $seed in '' | *[!0-9]*) printf 'demo: error: invalid seed %s: expected an integer\n' "$seed" >&2; exit 2 ;; esac
work=demo
[ $# -eq 0 ] || work=demo/seed-$seed
digits=$work/digits

log() { printf '\ndemo: %s\n' "$*" >&2; }
nextvlad() { node dist/src/nextvlad.cjs "$@"; }

log "setup"
scripts/setup.sh
log "build"
npm run --silent build

SECONDS=0
# The lists are written last: if one is missing, the digits are incomplete.
if [ -f "$digits/train.list" ] && [ -f "$digits/validate.list" ]; then
  log "digits: already in $digits"
else
  log "digits: 3,000 training videos, 500 validation videos by other writers"
  rm -rf "$digits"
  nextvlad digits --out "$digits" --seed "$seed" >&2
fi

log "train"
trained=$(nextvlad train --config configs/digits.yaml --fix-random-seed "$seed" --save-dir "$work/checkpoints" --overwrite \
  --set "TRAIN.filelist=$digits/train.list" --set "VALID.filelist=$digits/validate.list")
printf '%s\n' "$trained" >&2
snapshot=$(printf '%s\n' "$trained" | sed -n 's/^last snapshot: //p')

log "eval"
nextvlad eval --weights "$snapshot" --filelist "$digits/validate.list" --save-dir "$work/evaluate_results" >&2
log "infer"
nextvlad infer --weights "$snapshot" --filelist "$digits/validate.list" --save-dir "$work/predict_results" >&2

evaluated=$work/evaluate_results/NEXTVLAD_eval_result.json
inferred=$work/predict_results/NEXTVLAD_infer_result.pkl
log "done, $SECONDS s after the build"
node - "$evaluated" <<'JS'
const { hit_at_one, perr, gap, map, loss, videos } = JSON.parse(require("node:fs").readFileSync(process.argv[2], "utf8"));
for (const [name, value] of Object.entries({ "Hit@1": hit_at_one, PERR: perr, GAP: gap, MAP: map, loss })) {
  process.stdout.write(`${name.padEnd(8)} ${value.toFixed(4)}\n`);
}
process.stdout.write(`videos   ${videos}\n`);
JS
cat <<FILES

videos       $digits/*.tfrecord, listed in train.list and validate.list there
weights      $snapshot (and $work/checkpoints/best, by validation GAP)
log          $work/checkpoints/train.log.jsonl
evaluation   $evaluated
predictions  $inferred
             python3 -c "import pickle; print(pickle.load(open('$inferred', 'rb'))[0])"
FILES
