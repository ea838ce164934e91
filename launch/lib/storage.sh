# shellcheck shell=bash
# Small text objects in the run's folder, on gs:// or in a file system.
#
# Owns reading, writing, creating and removing one object. Never caches; in a dry run nothing outside gs:// is touched. Each
# function returns 0 or an outcome of lib/gcloud.sh; what was read is in REPLY_TEXT.

# Usage: read_object PATH
read_object() {
  if [[ $1 == gs://* ]]; then
    call_gcloud "$CALL_SECONDS" storage cat "$1"
  elif [[ -e $1 ]]; then
    REPLY_TEXT=$(<"$1")
  else
    return "$NOT_FOUND"
  fi
}

# Usage: write_object PATH FILE [new]. With "new" an object that exists is left alone, and the outcome is EXISTS.
write_object() {
  if [[ $1 == gs://* ]]; then
    if [[ ${3:-} == new ]]; then
      call_gcloud "$CALL_SECONDS" storage cp "$2" "$1" --if-generation-match=0
    else
      call_gcloud "$CALL_SECONDS" storage cp "$2" "$1"
    fi
  elif [[ -n $DRY_RUN ]]; then
    return 0
  elif [[ ${3:-} == new ]]; then
    mkdir -p -- "${1%/*}" 2>/dev/null || return "$DENIED"
    (set -o noclobber && cat -- "$2" >"$1") 2>/dev/null && return 0
    [[ -e $1 ]] && return "$EXISTS"
    return "$DENIED"
  else
    cp -- "$2" "$1.partial" && mv -- "$1.partial" "$1"
  fi
}

# Usage: remove_object PATH
remove_object() {
  if [[ $1 == gs://* ]]; then
    call_gcloud "$CALL_SECONDS" storage rm "$1"
  elif [[ -z $DRY_RUN ]]; then
    rm -f -- "$1"
  fi
}
