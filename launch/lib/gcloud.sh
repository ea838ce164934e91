# shellcheck shell=bash
# The only place that calls gcloud, and what an answer means.
#
# Owns time limits, the record of commands and the meaning of error messages. Never decides what follows from an outcome.
# The invariant: each call ends, its answer is in REPLY_TEXT and ERROR_TEXT, and its status is one of the outcomes below.
# With DRY_RUN set a call is printed, and lib/rehearsal.sh answers as a service does on which all goes well.

readonly NOT_FOUND=3 DENIED=4 NO_QUOTA=5 EXISTS=6 TRANSIENT=7
REPLY_TEXT="" ERROR_TEXT=""

# Usage: call_gcloud SECONDS argument … Returns 0 or an outcome. Runs in the background of this shell, so that signals are
# handled at once; the child keeps the supervisor's lock, so that whoever comes next waits until it has ended.
call_gcloud() {
  local seconds=$1 status=0
  shift
  if [[ -n $DRY_RUN ]]; then
    printf 'gcloud %s\n' "$(quoted "${@//$STATE/$RECORD}")" # as it would be with the real record's folder
    rehearse "$@"
    return
  fi
  timeout --kill-after=10 "$seconds" gcloud "$@" </dev/null >"$STATE/reply" 2>"$STATE/error" &
  wait $! || status=$?
  REPLY_TEXT=$(<"$STATE/reply") ERROR_TEXT=$(<"$STATE/error")
  ((status == 0)) && return 0
  case $status in
    124 | 137) ERROR_TEXT="gcloud gave no answer in $seconds seconds" ;;
    *) [[ -n $ERROR_TEXT ]] || ERROR_TEXT="gcloud ended with status $status" ;;
  esac
  outcome_of_error "$status" "$ERROR_TEXT"
}

# Usage: outcome_of_error STATUS TEXT. Returns the outcome that gcloud's own words mean.
outcome_of_error() {
  ((${1} == 0)) && return 0
  case $2 in
    *NOT_FOUND* | *"was not found"* | *"not found: 404"* | *"matched no objects"*) return "$NOT_FOUND" ;;
    *ALREADY_EXISTS* | *"already exists"* | *"pre-conditions"* | *"HTTPError 412"*) return "$EXISTS" ;;
    *[Qq]uota* | *RESOURCE_EXHAUSTED*) return "$NO_QUOTA" ;;
    *PERMISSION_DENIED* | *"does not have permission"* | *"HTTPError 403"*) return "$DENIED" ;;
    *UNAUTHENTICATED* | *"gcloud auth login"*) return "$DENIED" ;;
    *"HTTPError 404"*) return "$NOT_FOUND" ;;
    *) return "$TRANSIENT" ;;
  esac
}

# Prints the error of the last call as one line.
error_line() {
  local line
  line=$(grep -m 1 -E 'ERROR|error|denied|answer' <<<"$ERROR_TEXT" || tail -n 1 <<<"$ERROR_TEXT")
  printf '%s' "$line"
}

# Usage: call_tpu SECONDS GROUP VERB argument … A call about this run's slice.
call_tpu() {
  local seconds=$1 group=$2 verb=$3
  shift 3
  call_gcloud "$seconds" compute tpus "$group" "$verb" "$@" "--zone=$ZONE" "--project=$PROJECT" --quiet
}

# Usage: on_workers SECONDS WORKERS COMMAND. WORKERS is "all" or a number. Each worker's output is in $STATE/workers/I.log.
# gcloud runs the command again on a worker whose connection broke, so a command must do no harm when run twice.
on_workers() {
  mkdir -p -- "$STATE/workers"
  rm -f -- "$STATE/workers/"*.log
  call_tpu "$1" tpu-vm ssh "$NAME" "--worker=$2" "--command=$3" "--output-directory=$STATE/workers"
}

# Usage: worker_line I WORD. Prints what follows "pod: WORD " in the last such line that worker I wrote.
worker_line() { sed -n "s/^pod: $2 \{0,1\}//p" "$STATE/workers/$1.log" 2>/dev/null | tail -n 1; }

# Usage: quoted argument … Prints the arguments as one line that a remote bash reads back unchanged.
quoted() {
  local line
  printf -v line '%q ' "$@"
  printf '%s' "${line% }"
}
