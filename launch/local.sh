#!/usr/bin/env bash
# Trains on this machine: launch/local.sh [--config FILE] [--workdir FOLDER] [--config.key=value …]
#
# Creates .venv if it is missing or requirements.txt has changed, then becomes `python -m pipeline.train`, so that Ctrl-C and
# SIGTERM reach the trainer itself. The default --config is configs/quickstart.py, and the default --workdir is
# runs/<config>. The same command again continues the run.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$root/launch/lib/messages.sh"
source "$root/launch/lib/bootstrap.sh"
source "$root/launch/lib/paths.sh"
source "$root/launch/lib/devices.sh"

read_train_arguments "$PWD" "$root" "$@"
bootstrap "$root"
prepare_cpu_devices ""
cd -- "$root"
exec "$VENV_PYTHON" -m pipeline.train "${TRAIN_ARGUMENTS[@]}"
