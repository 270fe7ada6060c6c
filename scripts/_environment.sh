# Sourced by the scripts beside it: makes the virtual environment or reuses it, and sets $python to its interpreter.
# SURROGATE_VENV chooses the folder (default .venv in the checkout), PYTHON the interpreter that makes it (default python3).

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${SURROGATE_VENV:-$root/.venv}"
python="$venv/bin/python"
stamp="$venv/.surrogate-installed"

# One thread a process: the matrices are small, and several processes share the cores.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-$OMP_NUM_THREADS}"
export OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-$OMP_NUM_THREADS}"

# Compiled files are kept: without them every process compiles the package anew, and pytest all tests.
unset PYTHONDONTWRITEBYTECODE

_fail() {
  echo "$*" >&2
  exit 1
}

_require_python() {
  command -v "$1" >/dev/null || _fail "no '$1' found: install Python 3.10 or newer, or name one with PYTHON=..."
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    _fail "'$1' is $("$1" --version 2>&1): Python 3.10 or newer is needed, name one with PYTHON=..."
}

# What the installation depends on: a change in one of these files, or a checkout in another place, installs anew.
_requirements() {
  echo "$root"
  cat "$root/pyproject.toml" "$root/scripts/constraints.txt"
}

if [ ! -x "$python" ]; then
  _require_python "${PYTHON:-python3}"
  echo "making a virtual environment in $venv"
  "${PYTHON:-python3}" -m venv "$venv" ||
    _fail "could not make $venv: on Debian and Ubuntu install python3-venv, or name an environment with SURROGATE_VENV=..."
fi
_require_python "$python"

if ! _requirements | cmp -s - "$stamp"; then
  echo "installing into $venv (some minutes the first time)"
  "$python" -m pip install -qq -c "$root/scripts/constraints.txt" -e "$root[test]" ||
    _fail "the installation failed; the lines above say why"
  _requirements >"$stamp"
fi
