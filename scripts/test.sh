#!/usr/bin/env bash
# Every check of the project, from any directory: set-up, style, types, tests. The whole suite runs with the native kernels,
# and what computes runs again with the reference. Arguments go to pytest instead: scripts/test.sh tests/strategy -k pnas
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ruff check .
ruff format --check .
mypy --strict enas scripts
suite=(pytest --numprocesses 2 -m "not slow and not gpu")
if [ $# -gt 0 ]; then
    exec "${suite[@]}" "$@"
fi
# Coverage of the library; what calls commands and compilers would take twice as long under it and adds nothing to it.
"${suite[@]}" --ignore tests/scripts --ignore tests/kernels --cov=enas --cov-report=term --cov-fail-under=90
"${suite[@]}" tests/scripts tests/kernels
ENAS_KERNELS=reference "${suite[@]}" tests/estimator/test_{estimator_conformance,language,scratch,shared}.py tests/space \
    tests/supernet tests/scripts/test_verbs.py tests/test_{api,docs,final,search,train}.py
