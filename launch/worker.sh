#!/usr/bin/env bash
# What happens on one machine of a slice: worker.sh NAME setup|start|poll|read|tail|stop …
#
# Owns ~/.pods/NAME: code/ (the uploaded files), .venv, environment, attempts/N/{pid,log,status,…}. Never talks to the other
# machines. Each command may be run twice, or cut off and run again, without harm: an attempt is started at most once, and
# a second job is never started beside a running one. Answers are lines that begin with "pod: ".
set -euo pipefail

name=$1 command=$2
shift 2
home="$HOME/.pods/$name"
attempts="$home/attempts"

answer() { printf 'pod: %s\n' "$*"; }

# Usage: newest_attempt. Prints the number of the newest attempt; nothing when there is none.
newest_attempt() {
  [[ ! -d $attempts ]] || find "$attempts" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | tail -n 1
}

# Usage: is_running FOLDER. The wrapper holds run.lock until it has written status. Should the wrapper be gone, the trainer
# is looked up by its process number together with its start time, as the number alone may belong to another process.
is_running() {
  local pid started
  [[ ! -e "$1/status" && -e "$1/run.lock" ]] || return 1
  flock --nonblock "$1/run.lock" true || return 0
  [[ ! -e "$1/status" ]] && read -r pid started 2>/dev/null <"$1/pid" && [[ "$(start_time "$pid")" == "$started" ]]
}

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# The state of the newest attempt: absent | running N KEY | exited N STATUS TIME KEY | lost N KEY, with "stopped" at the end
# when it was asked to stop.
poll() {
  local number folder key stopped=""
  number=$(newest_attempt)
  [[ -n $number ]] || { answer "state absent" && return; }
  folder="$attempts/$number"
  key=$(cat "$folder/key" 2>/dev/null || true)
  [[ ! -e "$folder/stop" ]] || stopped=" stopped"
  if is_running "$folder"; then
    answer "state running $number $key$stopped"
  elif [[ -e "$folder/status" ]]; then
    answer "state exited $number $(<"$folder/status") $key$stopped"
  else
    answer "state lost $number $key$stopped"
  fi
}

# Usage: setup. Python and the packages, once; see lib/bootstrap.sh.
setup() {
  export PATH="$HOME/.local/bin:$PATH"
  local tries=0
  until command -v uv >/dev/null 2>&1; do
    ((++tries <= 5)) || { answer "failed cannot install uv" && exit 1; }
    curl -LsSf https://astral.sh/uv/install.sh | sh || python3 -m pip install --user uv || sleep "$tries"
  done
  # shellcheck source=launch/lib/messages.sh
  source "$home/code/launch/lib/messages.sh"
  # shellcheck source=launch/lib/bootstrap.sh
  source "$home/code/launch/lib/bootstrap.sh"
  # The TPU runtime goes on top of the tested set, of the same version of JAX.
  cat "$home/code/requirements.txt" <(sed -n 's/^jax==/jax[tpu]==/p' "$home/code/requirements.txt") >"$home/requirements.txt"
  for tries in 1 2 3 4 5; do
    if (REQUIREMENTS="$home/requirements.txt" MANAGED_PYTHON=3.12 bootstrap "$home"); then
      answer "ready"
      return
    fi
    sleep "$tries"
  done
  answer "failed $(tail -n 1 "$home/.venv/install.log" 2>/dev/null)"
  exit 1
}

# Usage: mount_bucket BUCKET. Mounts gs://BUCKET read-only at ~/.pods/NAME/data with gcsfuse.
mount_bucket() {
  mkdir -p "$home/data"
  if ! mountpoint -q "$home/data"; then
    command -v gcsfuse >/dev/null 2>&1 || {
      answer "failed gcsfuse is not installed on the runtime image"
      exit 1
    }
    gcsfuse --implicit-dirs -o ro "$1" "$home/data" || {
      answer "failed gcsfuse cannot mount gs://$1"
      exit 1
    }
  fi
  answer "ready"
}

# Usage: start NUMBER KEY argument … Starts the trainer detached from this connection, unless attempt NUMBER was started.
start() {
  local number=$1 key=$2 folder="$attempts/$1" newest
  shift 2
  exec 9>>"$home/start.lock"
  flock 9
  newest=$(newest_attempt)
  if [[ -n $newest ]] && is_running "$attempts/$newest"; then
    ((newest == number)) || answer "busy $newest"
  elif [[ ! -e "$folder/pid" ]]; then
    mkdir -p "$folder"
    printf '%s\n' "$key" >"$folder/key"
    printf '%s\0' "$@" >"$folder/arguments"
    cd "$home/code"
    # The wrapper leaves the session of this connection: losing the connection does not reach it.
    setsid --fork bash "$home/code/launch/worker.sh" "$name" run "$number" </dev/null >>"$folder/log" 2>&1 9>&-
    until [[ -s "$folder/pid" ]]; do sleep 0.05; done
  fi
  poll
}

# Usage: run NUMBER. Runs the trainer and writes down how and when it ended. Only `start` calls this.
run() {
  local folder="$attempts/$1" arguments=() pid status=0
  exec 7>>"$folder/run.lock"
  flock --nonblock 7 || exit 0
  mapfile -d '' arguments <"$folder/arguments"
  ulimit -n 100000 2>/dev/null || ulimit -n "$(ulimit -Hn)"
  if [[ -e "$home/environment" ]]; then
    local entry
    while IFS= read -r -d '' entry; do export "${entry?}"; done <"$home/environment"
  fi
  cd "$home/code"
  trap : HUP TERM # what ends the trainer is for the trainer: this wrapper must live to write down its status
  "$home/.venv/bin/python" -m pipeline.train "${arguments[@]}" 7>&- &
  pid=$!
  printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$folder/pid.partial"
  mv "$folder/pid.partial" "$folder/pid"
  wait "$pid" || status=$?
  while kill -0 "$pid" 2>/dev/null; do # a signal to this wrapper ended the waiting, not the trainer
    status=0
    wait "$pid" || status=$?
  done
  printf '%s %s\n' "$status" "$(date +%s.%N)" >"$folder/status.partial"
  mv "$folder/status.partial" "$folder/status"
}

# Usage: read_log NUMBER OFFSET LIMIT. Prints what is in the log after OFFSET bytes, LIMIT at most, then where it ended.
read_log() {
  local log="$attempts/$1/log" size last=""
  [[ -e $log ]] || { answer "offset $2" && return; }
  size=$(stat -c %s "$log")
  ((size <= $2 + $3)) || size=$(($2 + $3))
  # Not a pipe: whoever closes it early ends the writer with SIGPIPE, and with it this script, before it has said how far it is.
  ((size <= $2)) || dd if="$log" iflag=skip_bytes,count_bytes bs=64K skip="$2" count="$((size - $2))" status=none
  ((size == 0)) || last=$(dd if="$log" iflag=skip_bytes,count_bytes skip="$((size - 1))" count=1 status=none)
  [[ -z $last ]] || printf '\n'
  answer "offset $size"
}

# Usage: tail_log LINES. Prints the end of the newest log.
tail_log() {
  local number
  number=$(newest_attempt)
  [[ -n $number ]] || { answer "state absent" && return; }
  tail -n "$1" "$attempts/$number/log"
}

# Usage: wait_for_end FOLDER SECONDS
wait_for_end() {
  local tries
  for ((tries = 0; tries < $2 * 10; tries++)); do
    is_running "$1" || return 0
    sleep 0.1
  done
  return 1
}

# Usage: stop SECONDS [mark]. Asks the job to save and end, and ends it after SECONDS. With "mark" it counts as the user's wish.
# However often it is called an attempt is asked once: the trainer takes a second SIGTERM for "at once, without saving".
stop() {
  local number folder pid
  number=$(newest_attempt)
  folder="$attempts/$number"
  if [[ -n $number ]] && is_running "$folder"; then
    [[ ${2:-} != mark ]] || : >"$folder/stop"
    read -r pid _ <"$folder/pid"
    if (set -o noclobber && : >"$folder/asked") 2>/dev/null; then
      kill -TERM "$pid" 2>/dev/null || true
    fi
    wait_for_end "$folder" "$1" || kill -KILL "$pid" 2>/dev/null || true
    wait_for_end "$folder" 10 || answer "failed process $pid does not end"
  fi
  poll
}

case $command in
  setup) setup ;;
  mount) mount_bucket "$@" ;;
  start) start "$@" ;;
  run) run "$@" ;;
  poll) poll ;;
  read) read_log "$@" ;;
  tail) tail_log "$@" ;;
  stop) stop "$@" ;;
  *) answer "failed unknown command $command" && exit 2 ;;
esac
