# shellcheck shell=bash
# The scripts' messages, one line each, on standard error; standard output is for results.

# Prints one line and ends the script with status 1.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Prints one line.
note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
