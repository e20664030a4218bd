#!/usr/bin/env bash
# Packs nextvlad, installs the tarball into an empty prefix, sets it up, and trains on digits from another folder, without this clone.
#   scripts/pack/check.sh           in a temporary folder, removed afterwards
#   scripts/pack/check.sh FOLDER    in FOLDER, which is kept
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ $# -gt 0 ]; then
  mkdir -p "$1"
  folder=$(cd "$1" && pwd)
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
prefix=$folder/prefix
mkdir "$prefix" "$folder/elsewhere"

say() { printf 'pack: %s\n' "$*"; }
npm run --silent build
npm pack --silent --pack-destination "$folder" >"$folder/name"
tarball=$folder/$(cat "$folder/name")
say "$(basename "$tarball"): $(stat -c %s "$tarball") bytes, $(tar tzf "$tarball" | wc -l) files"

cd "$folder/elsewhere"
SECONDS=0
npm i -g --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "$prefix" "$tarball"
package=$prefix/lib/node_modules/nextvlad
say "installed in $SECONDS s, $(du -sm "$prefix" | cut -f1) MB"
export PATH=$prefix/bin:$PATH
say "$(type -p nextvlad): version $(nextvlad --version)"

cat >small.yaml <<'YAML'
MODEL: { num_classes: 10, max_frames: 60, cluster_size: 8, hidden_size: 64, groups: 8, expansion: 2, gating_reduction: 8, drop_rate: 0.5 }
TRAIN: { epoch: 2, batch_size: 32, learning_rate: 0.001, filelist: digits/train.list }
VALID: { batch_size: 32, filelist: digits/validate.list }
YAML
nextvlad digits --out digits --train-videos 320 --validate-videos 64
# Before setup, a command that computes prints how to set up.
if early=$(nextvlad train --config small.yaml --save-dir early 2>&1); then say "error: trained without setup"; exit 1; fi
printf '%s\n' "$early" | grep -F 'run: nextvlad setup'

SECONDS=0
nextvlad setup
say "set up in $SECONDS s, $(du -sm "$prefix" | cut -f1) MB"
SECONDS=0
nextvlad setup
say "set up again in $SECONDS s"

SECONDS=0
nextvlad train --config small.yaml --save-dir checkpoints
nextvlad infer --weights checkpoints/best --filelist digits/validate.list --save-dir results --format csv
say "trained and inferred in $SECONDS s"
[ "$(wc -l <results/NEXTVLAD_infer_result.csv)" -ge 64 ]
[ -f "$package/configs/nextvlad.yaml" ]

# The example of docs/library.md, in an empty folder except for the package and the two files that it reads.
mkdir -p "$folder/app/data"
cd "$folder/app"
ln -s "$prefix/lib/node_modules" node_modules
ln -s ../../elsewhere/checkpoints ../../elsewhere/digits data/
sed -n '/^```js$/,/^```$/p' "$package/docs/library.md" | sed '/^```/d' >example.mjs
node example.mjs >example.txt
say "the library's example printed $(wc -l <example.txt) lines, the first: $(sed -n 2p example.txt)"
say "ok"
