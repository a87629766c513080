#!/usr/bin/env bash
# The main job, from any directory: set-up, a search on the embedded digits, training of what it found.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run=runs/demo-$(date +%Y%m%d-%H%M%S)
enas-search data=digits experiment=demo run_dir="$run/search"
enas-train data=digits experiment=demo_final genotype="$run/search/genotype.json" n_random=2 run_dir="$run/train"
echo "Everything is in $root/$run; look at it with: .venv/bin/tensorboard --logdir $run"
