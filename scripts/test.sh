#!/usr/bin/env bash
# Every check of the project, from any directory: set-up, style, types, tests with coverage.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

ruff check .
ruff format --check .
mypy --strict enas scripts
pytest --numprocesses 2 -m "not slow and not gpu" --cov=enas --cov-report=term --cov-fail-under=90 "$@"
