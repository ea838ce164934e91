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

# Usage: object_generation PATH. Sets REPLY_TEXT to what changes whenever the object is written.
object_generation() {
  if [[ $1 == gs://* ]]; then
    call_gcloud "$CALL_SECONDS" storage objects describe "$1" "--format=value(generation)"
  else
    REPLY_TEXT=$(file_generation "$1")
  fi
}

file_generation() { if [[ -e $1 ]]; then cksum <"$1"; else printf 0; fi; }

# Usage: write_object PATH FILE [GENERATION]. With a generation (0: no object) an object that is of another by now is left
# alone, and the outcome is EXISTS; so of several writers that saw the same object one succeeds.
write_object() {
  if [[ $1 == gs://* ]]; then
    call_gcloud "$CALL_SECONDS" storage cp "$2" "$1" ${3:+"--if-generation-match=$3"}
  elif [[ -z $DRY_RUN ]]; then
    write_file "$@"
  fi
}

write_file() {
  mkdir -p -- "${1%/*}" 2>/dev/null || return "$DENIED"
  (
    flock 9
    [[ -z ${3:-} || $(file_generation "$1") == "$3" ]] || exit "$EXISTS"
    { cp -- "$2" "$1.partial" && mv -- "$1.partial" "$1"; } 2>/dev/null || exit "$DENIED"
  ) 9<"${1%/*}"
}

# Usage: remove_object PATH
remove_object() {
  if [[ $1 == gs://* ]]; then
    call_gcloud "$CALL_SECONDS" storage rm "$1"
  elif [[ -z $DRY_RUN ]]; then
    rm -f -- "$1"
  fi
}
