#!/usr/bin/env bash
# A pod on this machine: launch/simulated_pod.sh --processes P --devices-per-process D -- [arguments of launch/local.sh]
#
# Starts P trainers that form one run over virtual CPU devices, as the machines of a slice do. Each writes
# WORKDIR/logs/process-I.log; that of process 0 is shown. The script ends when all have ended. If one fails, the others get a
# moment, are then asked to stop, and at last are ended; the first failure is the exit status. Ctrl-C, or closing the terminal, asks
# all to save and stop.
set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$root/launch/lib/messages.sh"
source "$root/launch/lib/bootstrap.sh"
source "$root/launch/lib/paths.sh"
source "$root/launch/lib/devices.sh"

moment_seconds=${MOMENT_SECONDS:-20} # for the others after the first failure, and again after they were asked to stop
processes="" devices=""
while (($#)); do
  [[ $1 != --[pd]* || $1 == *=* ]] || (($# > 1)) || die "$1 needs a value"
  case $1 in
    --processes=* | --devices-per-process=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --processes) processes=${2:-} && shift 2 ;;
    --devices-per-process) devices=${2:-} && shift 2 ;;
    --) shift && break ;;
    *) die "unknown option $1; usage: simulated_pod.sh --processes P --devices-per-process D -- [arguments]" ;;
  esac
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || die "--processes=$processes: expected a whole number"
[[ $devices =~ ^[1-9][0-9]*$ ]] || die "--devices-per-process=$devices: expected a whole number"

read_train_arguments "$PWD" "$root" "$@"
bootstrap "$root"
unset XLA_FLAGS
export JAX_PLATFORMS=cpu
prepare_cpu_devices "$devices"
workdir=${TRAIN_ARGUMENTS[1]#--workdir=}
logs="$workdir/logs"
[[ $workdir != *://* ]] || logs="$root/runs/logs"
mkdir -p -- "$logs" || die "cannot write $logs"
cd -- "$root"
port=$("$VENV_PYTHON" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')

numbers=()
# Usage: tell_all SIGNAL. Sends it to the remaining processes.
tell_all() {
  local index
  for index in "${!numbers[@]}"; do kill "-$1" "${numbers[index]}" 2>/dev/null || true; done
}
trap 'tell_all TERM' HUP INT TERM

for ((index = 0; index < processes; index++)); do
  # In a session of its own, a trainer does not get the terminal's Ctrl-C too, which it would take for "stop at once".
  setsid "$VENV_PYTHON" -m pipeline.train "${TRAIN_ARGUMENTS[@]}" "--coordinator_address=localhost:$port" \
    "--process_count=$processes" "--process_index=$index" >"$logs/process-$index.log" 2>&1 </dev/null &
  numbers[index]=$!
done
tail -n +1 -f --pid="${numbers[0]}" "$logs/process-0.log" 2>/dev/null &

# Usage: collect. Removes ended processes from the list and remembers the first failure.
first_status=0
collect() {
  local index status
  for index in "${!numbers[@]}"; do
    kill -0 "${numbers[index]}" 2>/dev/null && continue
    status=0
    wait "${numbers[index]}" || status=$?
    unset "numbers[index]"
    if ((status != 0 && first_status == 0)); then
      first_status=$status failed_at=$EPOCHSECONDS
      note "process $index ended first with status $status; see $logs/process-$index.log"
    fi
  done
}

asked=""
while ((${#numbers[@]} > 0)); do
  collect
  if ((first_status != 0 && EPOCHSECONDS - failed_at > moment_seconds)); then
    if [[ -z $asked ]]; then
      tell_all TERM
      asked=yes failed_at=$EPOCHSECONDS
    else
      tell_all KILL
    fi
  fi
  sleep 0.1 || true
done
wait
exit "$first_status"
