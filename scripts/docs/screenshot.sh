#!/usr/bin/env bash
# Makes docs/report.png, the screenshot of a report in the README: trains on the digits, evaluates, and opens the report in Chromium.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
nextvlad=(node "$root/dist/src/nextvlad.cjs")
"${nextvlad[@]}" digits --out data/digits --train-videos 1000
"${nextvlad[@]}" train --config "$root/configs/digits.yaml" --log-interval 1 --epoch 4 --set TRAIN.lr_boundary_examples=1000 --save-dir digits
"${nextvlad[@]}" eval --weights digits/best --filelist data/digits/validate.list --save-dir digits
"${nextvlad[@]}" report digits --out report.html
node "$root/dist/scripts/docs/screenshot.js" "$chromium" report.html "$root/docs/report.png"
