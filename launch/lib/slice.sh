# shellcheck shell=bash
# The slice: a queued resource and the TPU VM in it, which have the run's name.
#
# Owns creating, observing and deleting. Never decides when. The invariant: SLICE is one of absent, waiting, ready, dead or
# unknown, whatever words the service has; SLICE_WORDS are those words. Anything that is neither on its way nor ready is
# dead: the service's names for a machine that was taken back have changed before.

# Usage: observe_slice. Sets SLICE, SLICE_WORDS and, when ready, WORKERS and SLICE_TYPE. Returns DENIED when asking is not
# allowed.
observe_slice() {
  local outcome=0 resource node
  SLICE=unknown SLICE_WORDS=""
  call_tpu "$CALL_SECONDS" queued-resources describe "$NAME" "--format=value(state.state)" || outcome=$?
  case $outcome in
    0) resource=$REPLY_TEXT ;;
    "$NOT_FOUND") SLICE=absent SLICE_WORDS="not there" && return ;;
    "$DENIED") return "$DENIED" ;;
    *) SLICE_WORDS=$(error_line) && return ;;
  esac
  SLICE_WORDS=$resource
  case $resource in
    ACTIVE) ;;
    CREATING | ACCEPTED | WAITING_FOR_RESOURCES | PROVISIONING) SLICE=waiting && return ;;
    *) SLICE=dead && return ;;
  esac
  call_tpu "$CALL_SECONDS" tpu-vm describe "$NAME" \
    "--format=value(state,networkEndpoints.len(),acceleratorType.basename())" || outcome=$?
  case $outcome in
    0) ;;
    "$NOT_FOUND") SLICE=dead SLICE_WORDS="ACTIVE, without its machines" && return ;;
    *) SLICE_WORDS=$(error_line) && return ;;
  esac
  read -r node WORKERS SLICE_TYPE <<<"$REPLY_TEXT"
  SLICE_WORDS=$node
  case $node in
    READY) SLICE=ready ;;
    CREATING | STARTING | REPAIRING) SLICE=waiting ;;
    *) SLICE=dead ;;
  esac
}

# Usage: create_slice. Asks for the slice and returns at once with 0 or an outcome; asking twice is one request.
create_slice() {
  local outcome=0 options=("--node-id=$NAME" "--accelerator-type=$TYPE" "--runtime-version=$RUNTIME_VERSION")
  case $PROVISIONING in
    spot) options+=(--spot) ;;
    reserved) options+=(--reserved) ;;
  esac
  [[ -z $NETWORK ]] || options+=("--network=$NETWORK")
  [[ -z $SERVICE_ACCOUNT ]] || options+=("--service-account=$SERVICE_ACCOUNT")
  call_tpu "$CALL_SECONDS" queued-resources create "$NAME" "${options[@]}" --async || outcome=$?
  ((outcome == EXISTS)) && outcome=0
  return "$outcome"
}

# Usage: delete_slice. Deletes the queued resource with its machines and returns when they are gone, else with an outcome.
delete_slice() {
  local outcome=0
  call_tpu "$LONG_CALL_SECONDS" queued-resources delete "$NAME" --force || outcome=$?
  ((outcome == NOT_FOUND)) || { ((outcome == 0)) || return "$outcome"; }
  # A machine can outlive its request, and is billed as long as it is there.
  outcome=0
  call_tpu "$CALL_SECONDS" tpu-vm describe "$NAME" "--format=value(state)" || outcome=$?
  if ((outcome == 0)); then
    call_tpu "$LONG_CALL_SECONDS" tpu-vm delete "$NAME" || outcome=$?
  fi
  ((outcome == 0 || outcome == NOT_FOUND)) || return "$outcome"
  note_slice_end
}

# The record of what was used: a line "start end chips" for each slice, times in seconds; end is 0 while it is there.
note_slice_start() { [[ -s "$STATE/slice-start" ]] || printf '%s' "$EPOCHSECONDS" >"$STATE/slice-start"; }

note_slice_end() {
  [[ -s "$STATE/slice-start" ]] || return 0
  printf '%s %s %s\n' "$(<"$STATE/slice-start")" "$EPOCHSECONDS" "$CHIPS" >>"$STATE/slices"
  rm -f -- "$STATE/slice-start"
}
