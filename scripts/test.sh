#!/usr/bin/env bash
# Every check of the project, from any directory: set-up, style, types, tests with coverage. The whole suite runs with the
# native kernels, and what computes runs again with the reference.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ruff check .
ruff format --check .
mypy --strict enas scripts
pytest --numprocesses 2 -m "not slow and not gpu" --cov=enas --cov-report=term --cov-fail-under=90 "$@"
if [ $# -eq 0 ]; then
    ENAS_KERNELS=reference pytest --numprocesses 2 -m "not slow and not gpu" tests/estimator tests/space tests/supernet \
        tests/scripts/test_verbs.py tests/test_{api,docs,final,search,train}.py
fi
