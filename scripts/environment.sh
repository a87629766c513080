# Sourced by demo.sh and test.sh: makes or reuses .venv with the exact versions of constraints.txt and the native library
# of the sources as they are, goes to the repository root and puts the environment first on the path.
# PYTHON=/path/to/python chooses the interpreter, CXX=/path/to/g++ the compiler; without one everything runs, slower.

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
    # The native library is built with the environment's own torch and tools: they come first, without isolation.
    "${pip[@]}" setuptools wheel torch
    rm -rf build enas/kernels/native_library.so
    "${pip[@]}" --no-build-isolation --editable '.[dev]'
    library_fingerprint >.venv/library
    fingerprint >.venv/fingerprint
}

# What the library was built from.
library_fingerprint() {
    { find csrc setup.py -type f | LC_ALL=C sort | tr '\n' '\0' | xargs -0 cat; command -v "${CXX:-g++}" nvcc || true; } | cksum
}

# A library of older sources must not stay where the build of newer ones fails.
build_library() {
    echo "Building the native library"
    rm -rf build enas/kernels/native_library.so
    .venv/bin/python setup.py --quiet build_ext --inplace
    library_fingerprint >.venv/library
}

if [ ! -f .venv/fingerprint ] || [ "$(cat .venv/fingerprint)" != "$(fingerprint)" ]; then
    make_environment
elif [ ! -f .venv/library ] || [ "$(cat .venv/library)" != "$(library_fingerprint)" ]; then
    build_library
fi
export PATH="$root/.venv/bin:$PATH"
