#!/usr/bin/env bash
# Runs the tests: launch/test.sh [--quick | pytest arguments]
#
# The set-up is that of launch/local.sh; the tests run on the CPU. Without arguments all tests run, in one process for each core
# (at most 8). --quick alone runs what fits into two minutes, for a first look, and lists what it leaves out. Compiled programs
# stay in .venv, so a second run is shorter. Paths among the arguments are relative to the repository:
# launch/test.sh tests/model -k swish
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$root/launch/lib/messages.sh"
source "$root/launch/lib/bootstrap.sh"

bootstrap "$root"
export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$root/.venv/compilation_cache}"
cd -- "$root"
# A file's tests share fixtures, so they stay together; tests/conftest.py has the long files begin first.
parallel=(--numprocesses=logical --maxprocesses=8 --dist=loadfile --no-loadscope-reorder)
case "$*" in "" | --quick) set -- "${parallel[@]}" "$@" ;; esac
exec "$VENV_PYTHON" -m pytest "$@"
