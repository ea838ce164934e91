# shellcheck shell=bash
# The job on the workers: start, observe, read the log, stop, and say why it ended.
#
# Owns the meaning of what the workers answer. Never restarts anything. The invariant: JOB is one of absent, partial, running,
# finished, ended or unknown, for the newest attempt that any worker knows; the trainer's exit codes are those of
# pipeline/errors.py.

readonly FINISHED=0 DATA_ERROR=65 TRAINING_ERROR=70 PREEMPTED=75 CONFIG_ERROR=78

# Usage: observe_job. Sets JOB, ATTEMPT (0: none), JOB_KEY, STOPPED, FIRST_WORKER and FIRST_STATUS (when ended: the worker
# that failed first and its status, "lost" for one that vanished).
observe_job() {
  local script="$REMOTE_FOLDER/$NAME/code/launch/worker.sh" worker words running=0 finished=0 absent=0 first_time=""
  JOB=unknown ATTEMPT=0 JOB_KEY="" STOPPED="" FIRST_WORKER="" FIRST_STATUS=""
  on_workers "$CALL_SECONDS" all "if [ -e $script ]; then bash $script $NAME poll; else echo pod: state absent; fi" || return 0
  for ((worker = 0; worker < WORKERS; worker++)); do
    words=$(worker_line "$worker" state)
    [[ -n $words ]] || return 0
    read -r _ words _ <<<"$words" || true
    ((${words:-0} <= ATTEMPT)) || ATTEMPT=$words
  done
  for ((worker = 0; worker < WORKERS; worker++)); do
    read -ra words <<<"$(worker_line "$worker" state)"
    if [[ ${words[0]} == absent ]] || ((words[1] < ATTEMPT)); then
      ((absent += 1))
      continue
    fi
    [[ ${words[-1]} != stopped ]] || STOPPED=yes
    case ${words[0]} in
      running)
        ((running += 1))
        JOB_KEY=${words[2]}
        ;;
      lost)
        JOB_KEY=${words[2]}
        # Its end left no time behind. Whoever left one after an error may have been the cause, so that one counts first.
        [[ -n $first_time ]] || FIRST_WORKER=${FIRST_WORKER:-$worker} FIRST_STATUS=${FIRST_STATUS:-lost}
        ;;
      exited)
        JOB_KEY=${words[4]}
        if ((words[2] == FINISHED)); then
          ((finished += 1))
        elif [[ -z $first_time ]] || [[ ${words[3]} < $first_time ]]; then
          first_time=${words[3]} FIRST_WORKER=$worker FIRST_STATUS=${words[2]}
        fi
        ;;
    esac
  done
  if [[ -n $FIRST_STATUS ]]; then
    JOB=ended
  elif ((absent == WORKERS)); then
    JOB=absent
  elif ((finished == WORKERS)); then
    JOB=finished
  elif ((absent > 0)); then
    JOB=partial
  else
    JOB=running
  fi
  STILL_RUNNING=$running FINISHED_WORKERS=$finished
}

# Usage: start_job NUMBER. Starts attempt NUMBER on the workers that have not started it. Returns 0 or an outcome: NOT_FOUND
# when a worker has lost its files, as one does that was put up anew.
start_job() {
  local command outcome=0
  command="[ -e $REMOTE_FOLDER/$NAME/code/launch/worker.sh ] || { echo pod: missing; exit 1; }; "
  command+=$(worker_command start "$1" "$KEY" "${TRAIN_ARGUMENTS[@]}")
  on_workers "$CALL_SECONDS" all "$command" || outcome=$?
  if grep -q '^pod: missing' "$STATE/workers/"*.log 2>/dev/null; then
    ERROR_TEXT="a worker has lost its files"
    return "$NOT_FOUND"
  fi
  ((outcome == 0)) || return "$outcome"
  if grep -q '^pod: busy' "$STATE/workers/"*.log; then
    ERROR_TEXT="another attempt is running"
    return "$TRANSIENT"
  fi
}

# Usage: show_log. Prints what worker 0 has logged since the last time.
show_log() {
  local end
  on_workers "$CALL_SECONDS" 0 "$(worker_command read "$ATTEMPT" "$LOG_OFFSET" 65536)" || return 0
  end=$(worker_line 0 offset)
  [[ -n $end ]] || return 0
  ((end != LOG_OFFSET)) || return 0
  sed '/^pod: offset/d' "$STATE/workers/0.log"
  LOG_OFFSET=$end LOG_CHANGED=$EPOCHSECONDS
}

# Usage: stop_job SECONDS [mark]. Asks all workers to save and end, and ends them after SECONDS.
stop_job() { on_workers $(($1 + CALL_SECONDS)) all "$(worker_command stop "$@")"; }

# Usage: fetch_failure. Sets REASON from the status and the last lines of the worker that failed first, kept in $STATE/failure.
fetch_failure() {
  on_workers "$CALL_SECONDS" "$FIRST_WORKER" "$(worker_command tail 60)" || true
  cp -- "$STATE/workers/$FIRST_WORKER.log" "$STATE/failure" 2>/dev/null || : >"$STATE/failure"
  REASON=$(reason_of "$FIRST_STATUS" "$STATE/failure")
}

# Usage: reason_of STATUS LOG. Prints preempted, configuration, data, training, memory or crash.
reason_of() {
  case $1 in
    "$PREEMPTED") printf preempted ;;
    "$CONFIG_ERROR") printf configuration ;;
    "$DATA_ERROR") printf data ;;
    "$TRAINING_ERROR") printf training ;;
    *)
      if grep -qE 'RESOURCE_EXHAUSTED|CompileTimeHbmOom|Out of memory (while|allocating)|out of HBM' "$2"; then
        printf memory
      else
        printf crash
      fi
      ;;
  esac
}
