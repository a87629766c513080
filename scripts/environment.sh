# Sourced by demo.sh and test.sh: makes or reuses .venv with the exact versions of constraints.txt, goes to the
# repository root and puts the environment first on the path. PYTHON=/path/to/python chooses the interpreter.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    echo "Python 3.11 or later with its venv module is needed, and none was found;" \
        "install one or name it: PYTHON=/path/to/python" >&2
    return 1
}

# What the environment was made from; a moved checkout counts too, since scripts in .venv hold its path.
fingerprint() {
    { echo "$root"; cat constraints.txt pyproject.toml; if [ -f setup.py ]; then cat setup.py; fi; } | cksum
}

make_environment() {
    local python
    python=$(find_python)
    echo "Setting up .venv with $("$python" --version) (about a minute)"
    rm -rf .venv
    # Debian ships the venv module without the pip that it installs; a pip outside can fill the environment then.
    "$python" -m venv .venv >/dev/null 2>&1 || "$python" -m venv --clear --without-pip .venv
    local pip=(.venv/bin/python -m pip)
    if ! "${pip[@]}" --version >/dev/null 2>&1; then
        pip=("$python" -m pip --python .venv/bin/python)
    fi
    pip+=(--disable-pip-version-check install --quiet --constraint constraints.txt)
    # Building without isolation needs the build tools in the environment, before anything is built.
    "${pip[@]}" setuptools wheel
    "${pip[@]}" --no-build-isolation --editable '.[dev,sweep]'
    fingerprint >.venv/fingerprint
}

if [ ! -f .venv/fingerprint ] || [ "$(cat .venv/fingerprint)" != "$(fingerprint)" ]; then
    make_environment
fi
export PATH="$root/.venv/bin:$PATH"
