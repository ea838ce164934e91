#!/usr/bin/env bash
# From one command to a pod run that heals itself: launch/tpu_pod.sh --config configs/b7.py
#
# Asks for a TPU slice, brings code and packages to its machines, starts the trainer detached, and watches: a slice that was
# taken back is replaced, a job that failed is started again or stopped with the reason. The supervisor holds nothing that it
# could not look up: it may be ended at any time, and the same command goes on. See docs/pods.md.
set -euo pipefail

usage() {
  cat <<'USAGE'
launch/tpu_pod.sh [up] --config FILE [options] [-- --config.key=value …]   run FILE on a slice until it is finished
launch/tpu_pod.sh status | logs | ssh | stop | resume | down | simulate  [--name N | --config FILE] [--worker I]

  --config FILE         configuration, tracked by git; names the run unless --name does
  --name N              name of the run, the slice and the folder below gs://BUCKET/runs
  --type T              TPU type, such as v3-128 or v5litepod-16 (default: config.launch.accelerator_type)
  --zone Z, --project P place (default: launch/pod.env)
  --spot | --reserved | --on-demand   (default: config.launch.spot)
  --workdir gs://…      folder of the run (default: gs://BUCKET/runs/NAME)
  --data gs://…         prepared datasets, read directly; with --mount through gcsfuse
  --env K=V             environment of the trainer, may be repeated; values are never shown
  --max-restarts N      failures of the job that are answered by a restart (default 20); preemptions do not count
  --deadline H          hours after which the job is stopped with a checkpoint and the slice deleted
  --keep                leave the slice there when the run has ended
  --yes                 do not ask before the slice is requested
  --no-plan             do not compile the step for the slice first to see whether it fits and what the run costs
  --force               take over from a supervisor on another machine; with down: end the run although it has one
  --dry-run             print the gcloud commands of a run on which all goes well; needs no gcloud

status: step, top-1, time left, restarts, goodput, chip-hours      stop: save a checkpoint and end the job, keep the slice
logs: the end of the workers' logs     resume: the last `up` again     down: delete the slice     simulate: a preemption
USAGE
}

USER_FOLDER=$PWD
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/launch/lib/messages.sh"
source "$ROOT/launch/lib/bootstrap.sh"
source "$ROOT/launch/lib/paths.sh"
source "$ROOT/launch/lib/options.sh"
source "$ROOT/launch/lib/record.sh"
source "$ROOT/launch/lib/accelerators.sh"
source "$ROOT/launch/lib/gcloud.sh"
source "$ROOT/launch/lib/rehearsal.sh"
source "$ROOT/launch/lib/storage.sh"
source "$ROOT/launch/lib/lock.sh"
source "$ROOT/launch/lib/slice.sh"
source "$ROOT/launch/lib/code.sh"
source "$ROOT/launch/lib/job.sh"
source "$ROOT/launch/lib/supervise.sh"
source "$ROOT/launch/lib/checks.sh"
source "$ROOT/launch/lib/commands.sh"

reset_options
read_options "$@"
complete_options "$USER_FOLDER"
case $SUBCOMMAND in
  up)
    [[ ${1:-} != up ]] || shift
    up "$@"
    ;;
  status) show_status ;;
  logs) show_logs ;;
  ssh) open_shell ;;
  resume) resume "${@:2}" ;;
  *) "$SUBCOMMAND" ;;
esac
