#!/bin/sh
# From one command to a pod run that looks after itself: launch/tpu_pod.sh --config configs/b7.py
#
# Starts the package launch/pod with the first Python 3.9 or later that it finds. It needs only a POSIX shell, on Linux, macOS or
# Cloud Shell. See `launch/tpu_pod.sh --help` and docs/pods.md.
set -eu

for python in ${POD_PYTHON:+"$POD_PYTHON"} python3 python3.13 python3.12 python3.11 python3.10 python3.9 python; do
  if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; then
    # -I: neither the current folder nor PYTHONPATH affects the imports.
    exec "$python" -I -B -c '
import os, runpy, sys
sys.path.insert(0, os.path.dirname(os.path.realpath(sys.argv.pop(1))))
runpy.run_module("pod", run_name="__main__", alter_sys=True)' "$0" "$@"
  fi
done
echo "tpu_pod.sh: needs Python 3.9 or later, and found none in PATH; install one, or name it in POD_PYTHON" >&2
exit 1
