# shellcheck shell=bash
# What this machine remembers of a run: settings, counters, times and events, in one folder for each name.
#
# Owns the folder ($STATE; in a dry run a temporary one). Never holds what the service or the workers can be asked. Only its
# owner can read it, because the trainer's environment is in it.

# Usage: open_record. Sets RECORD and STATE for $NAME.
open_record() {
  RECORD=${POD_RECORDS:-${XDG_STATE_HOME:-$HOME/.local/state}/tpu_pod}/$NAME
  if [[ -n $DRY_RUN ]]; then
    STATE=$(mktemp -d)
    trap 'rm -rf -- "$STATE"' EXIT
  else
    STATE=$RECORD
    (umask 077 && mkdir -p -- "$STATE") 2>/dev/null || die "cannot write $STATE; name another folder with POD_RECORDS"
  fi
}

# Prints a line with the time, and keeps it among the run's events; the same line again in a row is left out.
say() {
  [[ "$*" != "${LAST_SAID:-}" ]] || return 0
  LAST_SAID="$*"
  printf '%(%H:%M:%S)T  %s\n' -1 "$*" >&2
  [[ -n $DRY_RUN ]] || printf '%(%F %T)T  %s\n' -1 "$*" >>"$STATE/events"
}

# Usage: counter NAME. Prints one of the run's numbers.
counter() { cat "$STATE/$1" 2>/dev/null || printf 0; }

# Usage: count NAME. Adds one to it.
count() { printf '%s' $(($(counter "$1") + 1)) >"$STATE/$1"; }

# Usage: save_command argument … Keeps the command line, and where it was given, for `resume`.
save_command() {
  printf '%s\0' "$@" >"$STATE/command"
  printf '%s' "$USER_FOLDER" >"$STATE/folder"
}
