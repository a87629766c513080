#!/usr/bin/env bash
# Every search space once with each strategy, from any directory: a short search on digits (or text), then a training of what
# was found. Prints the table of docs/results.md. `every_space.sh [SPACE ...]`: these alone; TEXT is the folder of data=text.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

run=runs/spaces-$(date +%Y%m%d-%H%M%S)
mkdir -p "$run"
[ $# -gt 0 ] || set -- $(ls conf/space | sed 's/\.yaml$//')
echo "| space | strategy | search, s | mean of candidates - of random rows | best - best random | parameters | training, s | test |"
echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
for space in "$@"; do
    search=(data=digits batch_size=32 objective=accuracy epochs=15 updates=4 candidates=30 train.rate.maximum=0.1 estimator.images=96)
    search+=(network.filters=8)
    train=(data=digits epochs=15 train.rate.maximum=0.1 network.filters=16)
    case $space in
    enas_rnn)
        search=(data=text data.root="${TEXT:?the folder of data=text}" train=language estimator=language objective=perplexity)
        search+=(epochs=2 batch_size=20 updates=4 candidates=16 rescored=3 watched=4 network.filters=128)
        search+=(train.steps=120 train.rate.minimum=1.0 train.clip=0.25)
        train=(experiment=text_demo_final epochs=2 data.root="$TEXT") ;;
    enas_macro | chain) ;;
    darts | pnas) search+=(network.layers=3) ;;
    *) search+=(network.layers=1) ;;
    esac
    for strategy in random reinforce; do
        to=$run/$space-$strategy
        enas-search space="$space" strategy=$strategy "${search[@]}" progress=false \
            run_dir="$to/search" > "$run/log" 2>&1 || { cat "$run/log"; exit 1; }
        enas-train genotype="$to/search/genotype.json" "${train[@]}" progress=false run_dir="$to/train" \
            > "$run/log" 2>&1 || { cat "$run/log"; exit 1; }
        python - "$to" "$space" $strategy << 'PYTHON'
import json
import sys
from pathlib import Path

folder, space, strategy = Path(sys.argv[1]), *sys.argv[2:]
search, train = (json.loads((folder / verb / "run.json").read_text()) for verb in ("search", "train"))
margin, found = search, train["results"]["found"]
score = " / ".join(f"{name} {value:.4g}" for name, value in found["test"].items() if name in ("accuracy", "perplexity"))
print(
    f"| {space} | {strategy} | {search['seconds']:.0f} "
    f"| {margin['mean_margin']:+.3f} +- {margin['mean_margin_error']:.3f} "
    f"| {margin['best_margin']:+.3f} +- {margin['best_margin_error']:.3f} "
    f"| {found['params']:,} | {found['seconds']:.0f} | {score} |"
)
PYTHON
    done
done
echo "the drawings are in $root/$run/*/search/*.svg"
