# shellcheck shell=bash
# One supervisor for a run: on this machine by a file lock, between machines by an object in the run's folder.
#
# Owns both locks. A lock that was not renewed for six times LOCK_SECONDS belongs to nobody. Never waits for another
# supervisor, only for the last command of one that was killed. The invariant: whoever finds a foreign name in the object,
# or no object any more, lets go of everything and changes nothing.

# Usage: lock_here. Takes the lock of this machine; it ends with this process and the commands it started.
lock_here() {
  exec 8>>"$STATE/lock"
  if ! flock --nonblock 8; then
    local holder
    holder=$(cat "$STATE/supervisor" 2>/dev/null || true)
    if [[ -n $holder ]] && kill -0 "$holder" 2>/dev/null; then
      die "a supervisor of $NAME runs already (process $holder); watch it with: $0 logs --name $NAME"
    fi
    say "waiting for the last command of a supervisor that was ended"
    flock --wait 900 8 || die "a command of an earlier supervisor of $NAME does not end; see who holds $STATE/lock"
  fi
  printf '%s' "$$" >"$STATE/supervisor"
}

lock_object() { printf '%s/supervisor.lock' "$WORKDIR"; }

# Writes who this is: machine, process, and the time in seconds.
write_lock_file() { printf '%s %s %s\n' "$LOCK_OWNER" "$$" "$EPOCHSECONDS" >"$STATE/lock-object"; }

# Usage: lock_workdir. Takes the lock in the run's folder; that it can be written is checked by this.
lock_workdir() { take_lock || die "cannot write to --workdir=$WORKDIR: $(error_line)"; }

# Usage: take_lock. Takes the lock in the run's folder and returns 0, or an outcome. Ends the script when another has it.
take_lock() {
  local outcome=0
  LOCK_OWNER=$(hostname):$STATE
  LOCK_OWNER=${LOCK_OWNER// /_}
  write_lock_file
  write_object "$(lock_object)" "$STATE/lock-object" 0 || outcome=$?
  if ((outcome == EXISTS)); then
    outcome=0
    take_lock_over || outcome=$?
  fi
  LOCK_REFRESHED=$EPOCHSECONDS
  return "$outcome"
}

# Usage: take_lock_over. Returns what reading or writing the object returned. Its holder may renew it between look and writing:
# then it is looked at again, unless that was another supervisor.
take_lock_over() {
  local owner first_owner="" seen generation outcome
  while true; do
    object_generation "$(lock_object)" || return
    generation=$REPLY_TEXT
    read_object "$(lock_object)" || return
    read -r owner _ seen <<<"$REPLY_TEXT" || true
    if [[ $owner != "$LOCK_OWNER" && -z ${FORCE:-} ]] && ((EPOCHSECONDS - ${seen:-0} < 6 * LOCK_SECONDS)); then
      die "$WORKDIR is supervised from ${owner%%:*} (seen $((EPOCHSECONDS - seen)) s ago):" \
        "stop that one, or take over with --force"
    fi
    [[ $owner == "${first_owner:=$owner}" ]] ||
      die "$WORKDIR was locked by another supervisor just now: start again to see which"
    outcome=0
    write_object "$(lock_object)" "$STATE/lock-object" "$generation" || outcome=$?
    ((outcome == EXISTS)) || return "$outcome"
  done
}

# Usage: keep_lock [now]. Renews the object now and then, or now; ends this supervisor when another has taken over.
keep_lock() {
  local owner generation outcome=0
  [[ ${1:-} == now ]] || ((EPOCHSECONDS - LOCK_REFRESHED >= LOCK_SECONDS)) || return 0
  object_generation "$(lock_object)" || outcome=$?
  generation=$REPLY_TEXT
  ((outcome != 0)) || read_object "$(lock_object)" || outcome=$?
  case $outcome in
    0) ;;
    "$NOT_FOUND") # only who has taken over takes it away, as `down` on another machine does at its end
      trap - EXIT
      say "another supervisor, or \`down\` on another machine, has taken over and ended: the lock in $WORKDIR is gone." \
        "Leaving what may be there of $NAME; end it: $0 down --name $NAME"
      exit 1
      ;;
    *) return 0 ;; # the service does not answer: others see the same, and wait
  esac
  read -r owner _ <<<"$REPLY_TEXT" || true
  if [[ $owner != "$LOCK_OWNER" ]]; then
    trap - EXIT # the lock is the other's: it stays
    say "another supervisor, on ${owner%%:*}, has taken over; leaving the slice and the job to it"
    exit 1
  fi
  write_lock_file
  # Another may have taken over since the look: its name must not be written over, or neither of the two would let go.
  write_object "$(lock_object)" "$STATE/lock-object" "$generation" || return 0
  LOCK_REFRESHED=$EPOCHSECONDS
}

# Usage: unlock_workdir
unlock_workdir() { remove_object "$(lock_object)" || true; }
