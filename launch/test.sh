#!/usr/bin/env bash
# Runs the tests: launch/test.sh [--quick | pytest arguments]
#
# The set-up is that of launch/local.sh; the tests run on the CPU. Without arguments all run, in three processes for two cores (at
# most 8), because many wait for processes of their own. --quick alone runs what fits into two minutes, for a first look, and
# lists what it leaves out. Compiled programs stay in .venv, so a second run is shorter. Paths among the arguments are relative
# to the repository: launch/test.sh tests/model -k swish
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$root/launch/lib/messages.sh"
source "$root/launch/lib/bootstrap.sh"

bootstrap "$root"
export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$root/.venv/compilation_cache}"
cd -- "$root"
# A file's tests share fixtures, so they stay together; tests/conftest.py has the long files begin first.
processes=$("$VENV_PYTHON" -c 'import os; print(min(8, (3 * len(os.sched_getaffinity(0)) + 1) // 2))')
case "$*" in "" | --quick) set -- --numprocesses="$processes" --dist=loadfile --no-loadscope-reorder "$@" ;; esac
exec "$VENV_PYTHON" -m pytest "$@"
