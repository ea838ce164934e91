# shellcheck shell=bash
# Makes the checkout's .venv hold exactly what requirements.txt says, once.
#
# It changes nothing outside .venv, and uses no network if .venv is complete. .venv/requirements.txt is a copy of the requirements
# whose installation finished. .venv/unfinished exists during an installation, so an interrupted one is recognised. It needs
# lib/messages.sh, a Python of SUPPORTED_PYTHON, and pip or uv.

SUPPORTED_PYTHON="3.11 3.12 3.13" # the versions for which the pinned requirements have wheels

# Usage: is_supported PYTHON. Succeeds if the command runs and has a supported version.
is_supported() {
  "$1" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1].split())' \
    "$SUPPORTED_PYTHON" >/dev/null 2>&1
}

# Prints the first usable Python: $PYTHON if set, else one of the PATH. Prints nothing if there is none.
find_python() {
  local candidate candidates=("${PYTHON:-python3}")
  [[ -n ${PYTHON:-} ]] || candidates+=(python3.13 python3.12 python3.11 python)
  for candidate in "${candidates[@]}"; do
    if is_supported "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
}

# Messages of pip and uv if they cannot reach the index.
NETWORK_FAILURES="name resolution|name or service not known|connection (refused|reset|timed out)"
NETWORK_FAILURES+="|failed to establish a new connection|network is unreachable|read timed out"
NETWORK_FAILURES+="|dns error|error sending request|failed to fetch"

# Usage: explain_failure LOG. Ends the script with one line on why the installation failed.
explain_failure() {
  local log=$1 reason
  if grep -qiE 'no space left on device|disk quota exceeded' "$log"; then
    reason="the disk is full (the packages need about 3 GB in the checkout and the temporary folder)"
  elif grep -qiE "$NETWORK_FAILURES" "$log" && grep -q 'Failed to download .*python-build-standalone' "$log"; then
    reason="Python ${MANAGED_PYTHON:-3.12} cannot be fetched from github.com; a machine without an external address needs Cloud NAT"
  elif grep -qiE "$NETWORK_FAILURES" "$log"; then
    reason="the package index cannot be reached; connect to the network once, or set PIP_INDEX_URL to a mirror"
  else
    reason=$(grep -iE '^ *(error|×)' "$log" | head -n 1 || true)
  fi
  die "cannot install requirements.txt: ${reason:-the installer failed} (full output: $log)"
}

# Usage: install_requirements ROOT REQUIREMENTS. Expects the lock to be held.
install_requirements() {
  local root=$1 requirements=$2 venv="$1/.venv" python log="$1/.venv/install.log"
  python=${MANAGED_PYTHON:-$(find_python)}
  if [[ -e "$venv/unfinished" ]] ||
    { [[ -e "$venv" || -L "$venv" ]] && ! is_supported "$venv/bin/python"; }; then
    note "the .venv found is unfinished or unusable; building it again"
    rm -rf -- "$venv"
  fi
  if ! { mkdir -p -- "$venv" && : >"$venv/unfinished"; } 2>/dev/null; then
    die "cannot write $venv"
  fi
  rm -f -- "$venv/requirements.txt"

  if command -v uv >/dev/null 2>&1; then
    note "installing requirements.txt into .venv with uv (once)"
    if [[ ! -x "$venv/bin/python" ]]; then
      uv venv --allow-existing ${MANAGED_PYTHON:+--managed-python} --python "${python:-3.12}" "$venv" >"$log" 2>&1 || explain_failure "$log"
    fi
    uv pip install --python "$venv/bin/python" -r "$requirements" >>"$log" 2>&1 || explain_failure "$log"
  else
    [[ -n $python ]] || die "needs Python ${SUPPORTED_PYTHON// /, } and found $(python3 --version 2>&1 | head -n 1 ||
      true); install one, or set PYTHON to it, or install uv"
    note "installing requirements.txt into .venv with pip (once; a few minutes)"
    if [[ ! -x "$venv/bin/python" ]]; then
      "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
        die "$python has no venv or pip module; install them (Debian, Ubuntu: apt install python3-venv) or install uv"
      "$python" -m venv "$venv" >"$log" 2>&1 || explain_failure "$log"
    fi
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -r "$requirements" >>"$log" 2>&1 ||
      explain_failure "$log"
  fi
  cp -- "$requirements" "$venv/requirements.partial" && mv -- "$venv/requirements.partial" "$venv/requirements.txt"
  rm -f -- "$venv/unfinished"
}

# Usage: add_packages REQUIREMENTS. Installs more into the finished .venv; installed packages need no network.
add_packages() {
  if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$VENV_PYTHON" --no-deps -r "$1"
  else
    "$VENV_PYTHON" -m pip install --quiet --disable-pip-version-check --no-input --no-deps -r "$1"
  fi
}

# Usage: is_complete ROOT REQUIREMENTS.
is_complete() {
  [[ -x "$1/.venv/bin/python" && ! -e "$1/.venv/unfinished" ]] && cmp -s -- "$2" "$1/.venv/requirements.txt"
}

# Usage: bootstrap ROOT. Sets VENV_PYTHON. Of two at the same time, the second waits for the first. REQUIREMENTS names another
# file. With MANAGED_PYTHON, a version, uv fetches an interpreter and leaves the machine's alone.
bootstrap() {
  local root=$1 requirements=${REQUIREMENTS:-$1/requirements.txt}
  VENV_PYTHON="$root/.venv/bin/python"
  [[ -r $requirements ]] || die "cannot read $requirements"
  if ! is_complete "$root" "$requirements"; then
    # The lock is on the checkout itself, so no file is left behind. An installer that outlives a killed start still holds it.
    command -v flock >/dev/null 2>&1 || die "needs the flock command (util-linux)"
    exec 9<"$root"
    if ! flock --nonblock 9; then
      note "another start is setting up .venv; waiting for it"
      flock 9
    fi
    is_complete "$root" "$requirements" || install_requirements "$root" "$requirements"
    exec 9<&-
  fi
  export VENV_PYTHON
}
