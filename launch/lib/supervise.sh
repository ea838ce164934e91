# shellcheck shell=bash
# Looks at the slice and the job, and does the one next thing, until the run is finished or cannot go on.
#
# Owns the decisions: recreate, set up, start, restart, stop. Never remembers what it can look up, so that it may be ended and
# started again at any time. The invariant: a job is started only after all workers said that none is running.

# Waits, at once interruptible, for the usual time or longer after each failure in a row: 1, 2, 4, … 16 times.
pause() {
  local seconds
  [[ -z $DRY_RUN ]] || return 0
  seconds=$(awk -v poll="$POLL_SECONDS" -v streak="${1:-0}" 'BEGIN { print poll * 2 ^ (streak < 4 ? streak : 4) }')
  sleep "$seconds" 8>&- &
  wait $! || true
}

# Usage: supervise. Returns the exit status of the whole run. SLICE is then as it was last seen.
supervise() {
  local said="" failures=0 looks=0 outcome waiting_since=$EPOCHSECONDS
  STOPPED="" PREPARED="" SETUP_FAILURES=0 LOG_OFFSET=0 LOG_CHANGED=$EPOCHSECONDS WATCHED=0 HANDLED=0 RESTARTS=0 FIRST_FINISH=""
  while true; do
    ((looks += 1))
    keep_lock
    if past_deadline; then
      end_at_deadline
      return "$PREEMPTED"
    fi
    observe_slice || SLICE_WORDS="not to be seen: gcloud is not allowed to look; log in again, the job goes on ($(error_line))"
    if [[ "$SLICE $SLICE_WORDS" != "$said" ]]; then
      say "slice $NAME ($TYPE): $SLICE_WORDS"
      said="$SLICE $SLICE_WORDS"
      waiting_since=$EPOCHSECONDS
    fi
    case $SLICE in
      absent)
        PREPARED="" SETUP_FAILURES=0 WATCHED=0
        # What is not there any more may have been deleted by whoever has taken over, and must not come back. At the first look
        # the lock was only just taken.
        ((looks == 1)) || keep_lock now
        outcome=0
        request_slice || outcome=$?
        ((outcome == 0)) || failures=$((failures + 1))
        if ((outcome == DENIED)); then
          say "giving up: not allowed to create the slice: $(error_line)"
          return 1
        elif ((failures >= MAX_REQUESTS)); then
          say "giving up: the slice was refused $failures times: $(error_line)"
          return 1
        fi
        ((failures == 0)) || pause "$failures"
        continue
        ;;
      dead)
        PREPARED="" SETUP_FAILURES=0 WATCHED=0
        replace_slice || failures=$((failures + 1))
        if ((failures >= MAX_REQUESTS)); then
          say "giving up: the slice failed $failures times: $SLICE_WORDS"
          return 1
        fi
        ;;
      waiting)
        PREPARED="" # a machine under repair may come back without its files, or without what was mounted
        if [[ $SLICE_WORDS != WAITING_FOR_RESOURCES ]] && ((EPOCHSECONDS - waiting_since > PROVISION_SECONDS)); then
          say "it has been $SLICE_WORDS for $((PROVISION_SECONDS / 60)) minutes: asking anew"
          replace_slice || failures=$((failures + 1))
        fi
        ;;
      ready)
        [[ $SLICE_TYPE == "$TYPE" ]] ||
          die "the slice $NAME is a $SLICE_TYPE, not a $TYPE: $0 down --name $NAME, or another --name"
        failures=0
        note_slice_start
        local status=0
        advance_job || status=$?
        ((status == GO_ON)) || return "$status"
        ;;
      unknown) ;; # the service did not answer; the job does not need it
    esac
    pause "$((failures > SETUP_FAILURES ? failures : SETUP_FAILURES))"
  done
}

readonly GO_ON=255

# Asks for the slice. Returns 0 or the outcome of the request.
request_slice() {
  local outcome=0
  say "asking for $TYPE in $ZONE ($PROVISIONING)"
  create_slice || outcome=$?
  ((outcome == 0 || outcome == DENIED)) || say "the request was refused: $(error_line)"
  return "$outcome"
}

# Deletes what is left of a slice; the next look finds it absent and asks for another. Fails when it had never been ready.
replace_slice() {
  local had_started=""
  [[ ! -s "$STATE/slice-start" ]] || had_started=yes
  [[ -z $had_started ]] || count recreations
  say "the slice is gone ($SLICE_WORDS): deleting what is left, then asking for another; the run goes on from its checkpoint"
  delete_slice || say "cannot delete it yet: $(error_line)"
  [[ -n $had_started ]]
}

# One step towards a finished job on a slice that is ready. Returns GO_ON, or the exit status of the run.
advance_job() {
  observe_job
  case $JOB in
    unknown) say "no answer from all workers ($(error_line)); the job does not depend on it" ;;
    absent)
      launch_job
      return
      ;;
    running | partial)
      [[ $JOB_KEY == "$KEY" ]] ||
        die "another job runs on $NAME, started with other arguments: end it first with $0 stop --name $NAME"
      if ((WATCHED != ATTEMPT)); then
        say "attempt $ATTEMPT is running on $WORKERS workers"
        WATCHED=$ATTEMPT
      fi
      if [[ $JOB == partial ]]; then
        complete_job || return
      fi
      show_log
      end_stalled_job
      ;;
    finished)
      if [[ $JOB_KEY != "$KEY" ]]; then
        launch_job
        return
      fi
      show_log
      say "finished: the results are in $WORKDIR"
      return "$FINISHED"
      ;;
    ended)
      if ((HANDLED == ATTEMPT)); then
        launch_job
      elif ((WATCHED != ATTEMPT && STILL_RUNNING == 0)); then
        say "attempt $ATTEMPT ended while nobody watched: starting again"
        launch_job
      else
        answer_failure
      fi
      return
      ;;
  esac
  return "$GO_ON"
}

# Starts a job on the workers that have not started it. One that has lost its files cannot: the others wait for it in vain, so
# they are asked to save and ended, and the next attempt begins with the files. Returns 0, or as launch_job when it was called.
complete_job() {
  local outcome=0
  start_job "$ATTEMPT" || outcome=$?
  ((outcome != 0)) || return 0
  say "cannot start the job on all workers yet: $(error_line)"
  ((outcome == NOT_FOUND)) || return 0
  PREPARED=""
  if ((STILL_RUNNING > 0)); then
    stop_job "$GRACE_SECONDS" || true # the worker without files cannot answer
    return 0
  fi
  launch_job
}

# Brings code and packages, then starts the next attempt. Whatever fails is tried again at the next look. Returns GO_ON, or the
# exit status of the run when the workers cannot be set up.
launch_job() {
  local next outcome=0
  if [[ -z $PREPARED ]]; then
    say "bringing the code to $WORKERS workers"
    upload_code || { set_up_failed; return; }
    say "setting up Python and the packages on $WORKERS workers"
    set_up_workers || { set_up_failed; return; }
    PREPARED=yes SETUP_FAILURES=0
  fi
  next=$(($(counter attempts) > ATTEMPT ? $(counter attempts) : ATTEMPT))
  printf '%s' "$next" >"$STATE/attempts" && count attempts
  next=$(counter attempts)
  LOG_OFFSET=0 LOG_CHANGED=$EPOCHSECONDS FIRST_FINISH=""
  say "starting attempt $next"
  start_job "$next" || outcome=$?
  if ((outcome == 0)); then
    WATCHED=$next
  else
    say "it has not started on all workers: $(error_line)"
    ((outcome != NOT_FOUND)) || PREPARED=""
  fi
  return "$GO_ON"
}

# Says why the workers are not set up. Returns GO_ON, or 1 when it has failed too often: the slice is billed all the while.
set_up_failed() {
  SETUP_FAILURES=$((SETUP_FAILURES + 1))
  say "that failed: $(error_line)"
  ((SETUP_FAILURES >= MAX_SETUPS)) || return "$GO_ON"
  say "giving up: the workers could not be set up $SETUP_FAILURES times in a row: $(error_line)"
  return 1
}

# Waits until every worker has ended, ends those that hang on a lost one, then decides. Returns the run's status or GO_ON.
answer_failure() {
  local since=$EPOCHSECONDS
  WATCHED=$ATTEMPT
  while ((STILL_RUNNING > 0)) && ((EPOCHSECONDS - since < GRACE_SECONDS)); do
    pause
    observe_job
    [[ $JOB != unknown ]] || return "$GO_ON"
  done
  if ((STILL_RUNNING > 0)); then
    stop_job "$GRACE_SECONDS" || return "$GO_ON"
  fi
  if [[ -n $STOPPED ]]; then
    say "stopped as asked; go on with: $0 resume --name $NAME"
    return "$PREEMPTED"
  fi
  # When a machine was taken back, the job's end says nothing about the job.
  observe_slice || true
  [[ $SLICE == ready ]] || return "$GO_ON"
  show_log
  fetch_failure
  HANDLED=$ATTEMPT
  case $REASON in
    preempted)
      count preemptions
      say "preempted after saving a checkpoint (worker $FIRST_WORKER): starting again"
      ;;
    crash)
      count restarts
      RESTARTS=$((RESTARTS + 1))
      say "worker $FIRST_WORKER failed first (status $FIRST_STATUS); its last lines:"
      tail -n 20 "$STATE/failure"
      if ((RESTARTS > MAX_RESTARTS)); then
        say "that was failure number $RESTARTS, and --max-restarts is $MAX_RESTARTS: giving up"
        return 1
      fi
      say "restart $RESTARTS of $MAX_RESTARTS"
      pause "$RESTARTS"
      ;;
    *)
      say "stopping: $(explain "$REASON"). Worker $FIRST_WORKER said:"
      tail -n 20 "$STATE/failure"
      [[ $REASON != memory ]] || return "$TRAINING_ERROR"
      return "$FIRST_STATUS"
      ;;
  esac
  launch_job
}

# Ends a job that makes no more progress, so that it is started again: a silent log, or workers that outlive the others' end.
end_stalled_job() {
  if ((FINISHED_WORKERS > 0)); then
    : "${FIRST_FINISH:=$EPOCHSECONDS}"
  fi
  if [[ -n $FIRST_FINISH ]] && ((EPOCHSECONDS - FIRST_FINISH > 5 * GRACE_SECONDS)); then
    say "$STILL_RUNNING workers have not ended with the others: ending them"
  elif ((EPOCHSECONDS - LOG_CHANGED > STALL_SECONDS)); then
    say "worker 0 has logged nothing for $((STALL_SECONDS / 60)) minutes: ending the job"
  else
    return 0
  fi
  stop_job "$GRACE_SECONDS" || say "cannot reach all workers: $(error_line)"
}

# Usage: explain REASON. Prints what it means and what to do.
explain() {
  case $1 in
    configuration) printf 'the configuration cannot work, and starting again changes nothing' ;;
    data) printf 'data is missing or damaged; see --data and python -m pipeline.prepare' ;;
    training) printf 'training must not go on (a loss that is not finite, for example); a checkpoint from before is kept' ;;
    memory) printf 'the model does not fit the memory: a larger slice, a smaller config.batch_size or config.model.remat=True' ;;
  esac
}

past_deadline() { ((DEADLINE_SECONDS > 0 && EPOCHSECONDS - $(cat "$STATE/first-start") > DEADLINE_SECONDS)); }

# Has the job save before its slice is deleted. A service that does not answer is asked again: a checkpoint hangs on it.
end_at_deadline() {
  local try
  say "the deadline of $DEADLINE_HOURS hours is reached: asking for a checkpoint and ending"
  STOPPED="" # by the deadline, not by a user who wants to keep the slice
  for ((try = 1; try <= 5; try++)); do
    observe_slice || true
    case $SLICE in
      ready)
        stop_job "$STOP_SECONDS" mark && return
        say "cannot reach all workers: $(error_line)"
        ;;
      unknown) say "no answer about the slice: $(error_line)" ;;
      *) return 0 ;; # nothing runs there
    esac
    pause "$try"
  done
}
