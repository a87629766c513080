#!/usr/bin/env bash
# Everything that a claim about a GPU needs, in one run of at most nine minutes: build, tests, memory checker, the
# machine's limits, kernels, steps, scores and whole searches beside plain PyTorch. DIR gets gpu_report.json and
# gpu_report.md, kept up to date after every stage; a stage that fails or runs out of time stops no other.
#
#     bash scripts/gpu_report.sh DIR
#
# Nothing is installed: PYTHON (python3) has torch; wheels of what else is missing (hydra-core, omegaconf,
# antlr4-python3-runtime) may lie in .whl/. Without a GPU what can run does, on the CPU. SECONDS_IN_ALL bounds the run,
# STAGES="machine step" runs these only, QUICK=1 makes everything tiny, to try the script itself.
# Exit code: 0, or 1 where a stage failed or found no time.
set -uo pipefail

if [ $# -ne 1 ]; then
    echo "usage: bash scripts/gpu_report.sh DIR" >&2
    exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
total=${SECONDS_IN_ALL:-540}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The package as it would be installed, without installing it.
mkdir -p "$work/site/enas"
for entry in "$PWD"/enas/*; do ln -s "$entry" "$work/site/enas/"; done
ln -s "$PWD/conf" "$work/site/enas/conf"
ln -s "$PWD/scripts" "$work/site/enas/scripts"
export PYTHONPATH=$work/site PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1
if compgen -G ".whl/*.whl" >/dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-cache-dir --target "$work/wheels" .whl/*.whl
    export PYTHONPATH=$PYTHONPATH:$work/wheels
fi

gpu=$("$python" -c 'import torch; print(int(torch.cuda.is_available()))' 2>/dev/null || echo 0)
if [ "$gpu" = 1 ]; then device=cuda; else device=cpu; fi

note() { # NAME CODE SECONDS LIMIT WHAT
    printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$work/stages.tsv"
    "$python" enas/bench/report.py "$work" "$out"
    status=$?
}

# stage NAME LIMIT gpu|any WHAT COMMAND...
stage() {
    local name=$1 limit=$2 needs=$3 what=$4 left started code
    shift 4
    if [ -n "${STAGES:-}" ] && [[ " $STAGES " != *" $name "* ]]; then return; fi
    left=$((total - SECONDS - 5))
    if [ "$needs" = gpu ] && [ "$gpu" != 1 ]; then
        note "$name" waiting 0 "$limit" "$what"
        echo "$name: waits for a GPU"
        return
    fi
    if [ "$left" -lt 5 ]; then
        note "$name" "no time" 0 "$limit" "$what"
        echo "$name: left out, no time"
        return
    fi
    if [ "$limit" -gt "$left" ]; then limit=$left; fi
    started=$SECONDS
    timeout --kill-after=5 "$limit" "$@" >"$work/$name.log" 2>&1
    code=$?
    note "$name" "$code" $((SECONDS - started)) "$limit" "$what"
    echo "$name: exit code $code after $((SECONDS - started)) s"
}

bench() { # NAME LIMIT gpu|any WHAT KEYS...
    local name=$1 limit=$2 needs=$3 text=$4
    shift 4
    stage "$name" "$limit" "$needs" "$text" "$python" -c 'from enas.scripts.bench import main; main()' \
        device=$device out="$work/$name.jsonl" "$@" "${quick[@]}"
}

environment='
import platform, subprocess, torch
print("Python", platform.python_version(), "torch", torch.__version__, "CUDA", torch.version.cuda)
if torch.cuda.is_available():
    print(torch.cuda.get_device_name(), "capability", torch.cuda.get_device_capability(), "cuDNN", torch.backends.cudnn.version())
for command in (["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                ["git", "describe", "--always", "--dirty"]):
    try:
        print(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    except OSError:
        print(command[0], "is not there")
'
quick=()
searched=cifar operations='cases=*' batch=batch_size=160 steps=100
if [ "$gpu" != 1 ]; then batch=batch_size=64 steps=1 quick=(iterations=3); fi
if [ -n "${QUICK:-}" ]; then
    quick=(iterations=1 batch_size=2)
    searched=digits operations='cases=pointwise_norm/*' steps=1
fi
# Warnings of packages that happen to be there are no failures; a freed block must not be handed out again unseen.
pytest=("$python" -m pytest -q -p no:cacheprovider -W default --continue-on-collection-errors -m gpu)
sanitizer=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 99)
build="rm -rf build enas/kernels/native_library.so; '$python' setup.py --quiet build_ext --inplace
'$python' -c 'import sys; from enas.kernels import native; sys.exit(native.absence(\"$device\"))'"
checked="small or an_operation"

stage environment 60 any "Python, torch, GPU, revision" "$python" -c "$environment"
if [ "$gpu" = 1 ]; then export ENAS_CUDA=1; fi
stage build 200 any "the native kernels are built" bash -c "$build"
stage tests 90 gpu "Tests on the GPU" "${pytest[@]}" tests
bench machine 60 any "the machine's own limits" what=machine
bench step 60 any "a training step, fp32" what=step $batch
ENAS_LAUNCH=step bench step_by_step 60 gpu "a training step, fp32, a launch for each step of a pass" what=step $batch
bench step_bf16 60 gpu "a training step, bf16" what=step $batch precision=bf16
bench score 60 any "scores of ten children" what=score $batch
bench search 150 any "a whole search, fp32" what=search cases=$searched steps=$steps
bench search_bf16 90 gpu "a whole search, bf16" what=search cases=$searched steps=$steps precision=bf16
bench kernels 90 any "single operations" what=kernels compile=false "$operations"
stage memcheck 100 gpu "compute-sanitizer memcheck" "${sanitizer[@]}" --tool memcheck \
    "${pytest[@]}" tests/kernels/test_cuda.py -k "$checked"
stage profile 60 gpu "Profile of a search on digits" "$python" -c 'from enas.scripts.search import main; main()' \
    debug=profile device=$device progress=false candidates=5 rescored=2 run_dir="$work/run"
bench memory 60 gpu "peak memory of a step" what=memory $batch
bench digits 40 gpu "a search on digits" what=search cases=digits
stage racecheck 60 gpu "compute-sanitizer racecheck" "${sanitizer[@]}" --tool racecheck \
    "${pytest[@]}" tests/kernels/test_cuda.py -k small
echo "written to $out/gpu_report.json and $out/gpu_report.md after $SECONDS s"
exit "${status:-1}"
