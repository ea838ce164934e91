# shellcheck shell=bash
# The subcommands of tpu_pod.sh, each a short story of calls to the other parts.
#
# Owns their order. Calls gcloud through the other parts only.

# Usage: up argument … Makes the run happen, or joins the one that happens. The arguments are kept for `resume`.
up() {
  local status=0 outcome=0
  need_place
  complete_run
  open_record
  [[ -n $DRY_RUN ]] || lock_here
  choose_python
  check_config
  check_account
  check_type
  check_bucket
  [[ -n $DRY_RUN ]] || save_command "$@"
  printf '%s\n' "$PROJECT" "$ZONE" "$WORKDIR" "$TYPE" "$BATCH_SIZE" >"$STATE/run"
  [[ -s "$STATE/first-start" ]] || printf '%s' "$EPOCHSECONDS" >"$STATE/first-start"
  pack_code
  observe_slice || die "not allowed to look at the slice: $(error_line)"
  if [[ $SLICE == absent ]]; then
    check_memory
    confirm_cost
  fi
  lock_workdir
  trap close_run EXIT
  trap leave INT TERM
  supervise || status=$?
  # An end is an end: nobody pays for a slice that has nothing to do, unless asked to. A request that waits, or a slice that
  # failed, is no use to anybody, and a request left alone becomes a slice that nobody watches.
  if [[ -n $STOPPED && $status == "$PREEMPTED" ]] || [[ -n $KEEP && $SLICE == @(ready|unknown) ]]; then
    say "the slice is still there, and billed: $(slice_dollars 1) dollars an hour until: $0 down --name $NAME"
  else
    say "deleting the slice (--keep leaves one that is ready)"
    delete_slice || outcome=$?
    if ((outcome != 0)); then
      say "cannot delete it: $(error_line). It may still be billed: $0 down --name $NAME"
    fi
  fi
  # A run that was stopped goes on with the time it has left; any other start is a new one, with a deadline of its own.
  [[ -n $STOPPED && $status == "$PREEMPTED" ]] || rm -f -- "$STATE/first-start"
  exit "$status"
}

# What is undone however `up` or `down` ends; a dry run's record goes too.
close_run() {
  unlock_workdir
  [[ -z $DRY_RUN ]] || rm -rf -- "$STATE"
}

# The supervisor may go at any time; the job does not notice.
leave() {
  say "this supervisor ends, the job and the slice go on (and are billed)." \
    "Come back: $0 resume --name $NAME; end: $0 down --name $NAME"
  exit 130
}

# Usage: resume argument … Runs the last `up` of this name again, with the few options that may have changed since.
resume() {
  local command=() changes=()
  while (($#)); do
    case $1 in
      --name | --config) shift ;; # which run; see NAME
      --name=* | --config=*) ;;
      --yes | --force | --keep | --no-plan) changes+=("$1") ;;
      *) die "resume is the last \`up\` again: it takes --name, --yes, --force, --keep and --no-plan, not $1" ;;
    esac
    shift
  done
  open_record
  [[ -s "$STATE/command" ]] || die "nothing is known of a run named $NAME on this machine; give the whole command again"
  mapfile -d '' command <"$STATE/command"
  cd -- "$(<"$STATE/folder")" || die "the folder $(<"$STATE/folder") is gone; give the whole command again"
  exec "$ROOT/launch/tpu_pod.sh" up "${changes[@]}" "${command[@]}"
}

# Usage: know_run. For the commands that follow a run: what `up` wrote down of it.
know_run() {
  open_record
  [[ -s "$STATE/run" ]] || die "nothing is known of a run named $NAME on this machine; see --name"
  read_run
}

# Usage: read_run. Takes over what is on record; a zone or project on the command line comes first.
read_run() {
  local project zone
  { read -r project && read -r zone && read -r WORKDIR && read -r TYPE && read -r BATCH_SIZE; } <"$STATE/run"
  : "${PROJECT:=$project}" "${ZONE:=$zone}"
  know_accelerator "$TYPE"
}

# Usage: in_own_folder. The replies of this command, beside those of a supervisor that may be at work.
in_own_folder() {
  SUPERVISED=$STATE
  STATE=$(mktemp -d)
  trap 'rm -rf -- "$STATE"' EXIT
}

# Usage: show_status
show_status() {
  know_run
  in_own_folder
  observe_slice || die "not allowed to look at the slice: $(error_line)"
  local attempt="no job" record=$SUPERVISED
  : >"$STATE/log"
  if [[ $SLICE == ready ]]; then
    observe_job
    attempt="job $JOB, attempt $ATTEMPT"
    on_workers "$CALL_SECONDS" 0 "$(worker_command tail 200)" || true
    cp -- "$STATE/workers/0.log" "$STATE/log" 2>/dev/null || true
  fi
  printf '%-11s %s, %s in %s\n' slice "$SLICE_WORDS" "$TYPE" "$ZONE"
  printf '%-11s %s\n' job "$attempt"
  printf '%-11s %s after errors, %s after preemptions, %s new slices\n' restarts \
    "$(cat "$record/restarts" 2>/dev/null || echo 0)" "$(cat "$record/preemptions" 2>/dev/null || echo 0)" \
    "$(cat "$record/recreations" 2>/dev/null || echo 0)"
  read_object "$WORKDIR/metrics.jsonl" || REPLY_TEXT=""
  printf '%s\n' "$REPLY_TEXT" >"$STATE/metrics"
  python3 "$ROOT/launch/lib/progress.py" "$STATE/metrics" "$STATE/log" "$BATCH_SIZE" "$CHIPS" \
    "$(cat "$record/slice-start" 2>/dev/null || echo 0)" "$record/slices"
}

# Usage: show_logs. The end of one worker's log, or of all.
show_logs() {
  local log
  know_run
  in_own_folder
  on_workers "$CALL_SECONDS" "${WORKER:-all}" "$(worker_command tail 100)" || note "not all workers answered: $(error_line)"
  for log in "$STATE/workers/"*.log; do
    [[ -e $log ]] || die "no worker answered: $(error_line)"
    printf '== worker %s ==\n' "$(basename -- "$log" .log)"
    cat -- "$log"
  done
}

# Usage: open_shell. A shell on one worker.
open_shell() {
  know_run
  exec gcloud compute tpus tpu-vm ssh "$NAME" "--worker=${WORKER:-0}" "--zone=$ZONE" "--project=$PROJECT"
}

# Usage: stop. Has the job save and end; the supervisor sees that it was asked for and ends too. The slice stays.
stop() {
  know_run
  in_own_folder
  observe_slice || die "not allowed to look at the slice: $(error_line)"
  [[ $SLICE == ready ]] || die "there is no running slice $NAME ($SLICE_WORDS); nothing to stop"
  say "asking for a checkpoint, then ending the job (at most $STOP_SECONDS seconds)"
  stop_job "$STOP_SECONDS" mark || die "not all workers answered: $(error_line)"
  observe_job
  case $JOB in
    running | partial | unknown) die "the job has not ended on all workers; see $0 logs --name $NAME" ;;
  esac
  say "ended. The slice is still billed, $(slice_dollars 1) dollars an hour: $0 resume, or $0 down, with --name $NAME"
}

# Usage: down. Ends the supervisor on this machine, deletes the slice, and says what is left. A supervisor on another machine
# would ask for the slice anew: it is named, and with --force it lets go.
down() {
  local holder outcome=0
  open_record
  holder=$(cat "$STATE/supervisor" 2>/dev/null || true)
  if [[ -z $DRY_RUN ]]; then
    exec 8>>"$STATE/lock"
    if ! flock --nonblock 8; then
      say "ending the supervisor (process $holder)"
      [[ -z $holder ]] || kill -TERM "$holder" 2>/dev/null || true
      flock --wait "$LONG_CALL_SECONDS" 8 || die "the supervisor (process $holder) does not end"
    fi
  fi
  if [[ -s "$STATE/run" ]]; then
    read_run
  else
    CHIPS=0
    [[ -n $WORKDIR || -z $BUCKET ]] || WORKDIR="gs://${BUCKET#gs://}/runs/$NAME"
  fi
  need_place
  if [[ -z $WORKDIR ]]; then
    say "a supervisor on another machine would ask for the slice anew; name the run's folder with --workdir to end that one too"
  elif take_lock; then
    trap close_run EXIT
  else
    say "cannot take the lock in $WORKDIR, so a supervisor on another machine would ask for the slice anew: $(error_line)"
  fi
  say "deleting $NAME in $ZONE"
  delete_slice || outcome=$?
  if ((outcome != 0)); then
    die "cannot delete $NAME: $(error_line). It may still be billed; try again, or see:" \
      "gcloud compute tpus queued-resources list --zone=$ZONE --project=$PROJECT"
  fi
  rm -f -- "$STATE/first-start"
  say "nothing of $NAME is running or billed any more; still billed: what is stored${WORKDIR:+ in $WORKDIR}"
}

# Usage: simulate. Has the service act as if it took a machine back, to see the run recover.
simulate() {
  know_run
  in_own_folder
  call_gcloud "$CALL_SECONDS" alpha compute tpus tpu-vm simulate-maintenance-event "$NAME" ${WORKER:+"--workers=$WORKER"} \
    "--zone=$ZONE" "--project=$PROJECT" --quiet || die "$(error_line)"
  say "asked; watch the supervisor, or: $0 status --name $NAME"
}
