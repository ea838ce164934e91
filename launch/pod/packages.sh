#!/usr/bin/env bash
# Installs Python and the packages on one machine of a slice: packages.sh ROOT CODE [BUCKET]
#
# It creates ROOT/tools (uv), ROOT/.venv and the mount ROOT/data. It may be run again at any time, and skips what is in place. The
# last line of a failure says what went wrong.
set -euo pipefail

root=$1 code=$2 bucket=${3:-}
readonly UV_VERSION=0.13.9
export PATH="$root/tools/bin:$PATH"

# shellcheck source=launch/lib/messages.sh
source "$code/launch/lib/messages.sh"
# shellcheck source=launch/lib/bootstrap.sh
source "$code/launch/lib/bootstrap.sh"

# pip checks the wheel against the index's checksum; no script from a web server is run.
install_uv() {
  if ! python3 -m pip --version >/dev/null 2>&1; then
    apt-get -qq -o DPkg::Lock::Timeout=300 update && apt-get -qq -o DPkg::Lock::Timeout=300 install --yes python3-pip
  fi
  python3 -m pip install --quiet --disable-pip-version-check --no-input --upgrade --target "$root/tools" "uv==$UV_VERSION"
}

command -v uv >/dev/null 2>&1 || install_uv || die "cannot install uv $UV_VERSION with pip"

# The TPU runtime is added to the tested set, for the same version of JAX.
{ cat "$code/requirements.txt" && sed -n 's/^jax==/jax[tpu]==/p' "$code/requirements.txt"; } >"$root/requirements.partial"
mv "$root/requirements.partial" "$root/requirements.txt"
REQUIREMENTS="$root/requirements.txt" MANAGED_PYTHON=3.12 bootstrap "$root"

if [[ -n $bucket ]]; then
  mkdir -p "$root/data"
  if ! mountpoint -q "$root/data"; then
    command -v gcsfuse >/dev/null 2>&1 || die "gcsfuse is not installed on the runtime image, and --mount needs it"
    gcsfuse --implicit-dirs -o ro "$bucket" "$root/data" || die "gcsfuse cannot mount gs://$bucket"
  fi
fi
