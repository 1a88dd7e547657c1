#!/usr/bin/env bash
# Upscale a folder with several models, each into a folder of its own:
#   examples/batch_process.sh FOLDER [MODEL ...]
set -euo pipefail
folder=${1:?usage: $0 FOLDER [MODEL ...]}
shift
[ $# -gt 0 ] || set -- RealESRGAN_x4plus RealESRGAN_x4plus_anime_6B realesr-animevideov3
status=0
for model in "$@"; do
    echo "Processing with $model"
    python "$(dirname "$0")/../inference_realesrgan.py" -n "$model" -i "$folder" -o "results_$model" -t 400 || status=$?
done
exit $status
