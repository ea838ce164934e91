# shellcheck shell=bash
# Brings this checkout's tracked files, Python and the packages to all workers.
#
# Owns the archive and its check. Never touches a worker on which a job runs (lib/supervise.sh sees to that). Each step may be
# cut off anywhere and run again; what is in place already takes an instant.

readonly REMOTE_FOLDER=".pods"

# Usage: worker_command argument … Prints the remote command that runs launch/worker.sh for this run.
worker_command() { printf 'bash %s %s' "$REMOTE_FOLDER/$NAME/code/launch/worker.sh" "$(quoted "$NAME" "$@")"; }

# Makes the archive of the tracked files as they are now, changes included, the same bytes for the same files. Sets CHECKSUM.
pack_code() {
  git -C "$ROOT" ls-files -z |
    tar --create --directory="$ROOT" --null --files-from=- --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner |
    gzip --no-name >"$STATE/code.tar.gz"
  CHECKSUM=$(sha256sum <"$STATE/code.tar.gz" | cut -c1-64)
  write_environment
}

# The environment of the trainer crosses in a file that only its owner reads: no value is on a command line or in a log.
write_environment() {
  (umask 077 && : >"$STATE/environment")
  ((${#ENVIRONMENT[@]} == 0)) || printf '%s\0' "${ENVIRONMENT[@]}" >"$STATE/environment"
}

# Usage: upload_code. Returns 0 when every worker has echoed the checksum of what it unpacked, else TRANSIENT.
upload_code() {
  local folder="$REMOTE_FOLDER/$NAME" unpack worker
  on_workers "$CALL_SECONDS" all "mkdir -p $folder" || return
  call_tpu "$LONG_CALL_SECONDS" tpu-vm scp "$STATE/code.tar.gz" "$STATE/environment" "$NAME:$folder/" --worker=all || return
  unpack="cd $folder && chmod 600 environment && sha256sum code.tar.gz | sed 's/^/pod: checksum /'"
  unpack+=" && rm -rf code.new && mkdir code.new && tar -xzf code.tar.gz -C code.new"
  unpack+=" && rm -rf code && mv code.new code && echo pod: unpacked"
  on_workers "$CALL_SECONDS" all "$unpack" || return
  for ((worker = 0; worker < WORKERS; worker++)); do
    if [[ "$(worker_line "$worker" checksum)" != "$CHECKSUM "* ]] ||
      ! grep -q '^pod: unpacked' "$STATE/workers/$worker.log"; then
      ERROR_TEXT="worker $worker has other files than were sent"
      return "$TRANSIENT"
    fi
  done
}

# Usage: set_up_workers. Returns 0 when every worker has its packages, else TRANSIENT with the first failure in ERROR_TEXT.
set_up_workers() {
  everyone_ready "$LONG_CALL_SECONDS" "$(worker_command setup)" || return
  if [[ -n $MOUNT_BUCKET ]]; then
    everyone_ready "$CALL_SECONDS" "$(worker_command mount "$MOUNT_BUCKET")" || return
  fi
}

# Usage: everyone_ready SECONDS COMMAND
everyone_ready() {
  local outcome=0 worker said=""
  on_workers "$1" all "$2" || outcome=$?
  ((outcome == 0)) || said=": $(error_line)"
  for ((worker = 0; worker < WORKERS; worker++)); do
    grep -q '^pod: ready' "$STATE/workers/$worker.log" 2>/dev/null && continue
    ERROR_TEXT="worker $worker: $(worker_line "$worker" failed)"
    [[ $ERROR_TEXT != *": " ]] || ERROR_TEXT="worker $worker gave no answer$said"
    return "$TRANSIENT"
  done
  return "$outcome"
}
