# shellcheck shell=bash
# The service of a dry run: every call is answered as on a day when all goes well.
#
# Owns the answers to lib/gcloud.sh in a dry run. Never runs gcloud. The invariant: the answers lead the supervisor through
# each stage once, so that what a dry run prints is what a real run calls.

REHEARSED_SLICE="" REHEARSED_JOB="state absent"

# Usage: rehearse argument … Sets REPLY_TEXT and the workers' output for one call.
rehearse() {
  local worker words="" folder="$STATE/workers"
  REPLY_TEXT="" ERROR_TEXT=""
  case "$1 $2 $3 ${4:-}" in
    "auth list"*) REPLY_TEXT="you@example.com" ;;
    "storage buckets describe"*) REPLY_TEXT=${ZONE%-*} ;;
    "compute tpus queued-resources create") REHEARSED_SLICE=yes ;;
    "compute tpus queued-resources delete") REHEARSED_SLICE="" ;;
    "compute tpus queued-resources describe")
      [[ -n $REHEARSED_SLICE ]] || return "$NOT_FOUND"
      REPLY_TEXT=ACTIVE
      ;;
    "compute tpus tpu-vm describe")
      [[ -n $REHEARSED_SLICE ]] || return "$NOT_FOUND"
      REPLY_TEXT="READY $HOSTS $TYPE"
      ;;
    "compute tpus tpu-vm ssh")
      case "$*" in
        *"sha256sum code.tar.gz"*) words="checksum $CHECKSUM  code.tar.gz"$'\npod: unpacked' ;;
        *" setup "* | *" mount "*) words=ready ;;
        *" start "*) REHEARSED_JOB="state exited 1 0 0 $KEY" words=$REHEARSED_JOB ;;
        *" read "*) words="offset 0" ;;
        *) words=$REHEARSED_JOB ;;
      esac
      for ((worker = 0; worker < HOSTS; worker++)); do printf 'pod: %s\n' "$words" >"$folder/$worker.log"; done
      ;;
  esac
}
