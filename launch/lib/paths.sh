# shellcheck shell=bash
# Resolves the relative paths of the trainer's command line, as typed in the user's folder.
#
# These are --config, --workdir and --config.data.data_dir. The resulting TRAIN_ARGUMENTS mean the same in every folder, and other
# arguments are passed on byte for byte. Configurations are not read.

# Usage: resolve_path PATH USER_FOLDER ROOT. Prints an absolute path: in the user's folder if it exists there, else in ROOT. Bash
# leaves the `~` of `--workdir=~/x` to its reader. Without a home directory the trainer refuses it.
resolve_path() {
  case $1 in
    /* | *://*) printf '%s' "$1" ;;
    [~] | [~]/*) printf '%s' "${HOME-~}${1:1}" ;;
    *)
      # A config may have an argument after a colon; the file is the part before it.
      if [[ ! -e "$2/${1%%:*}" && -e "$3/${1%%:*}" ]]; then
        printf '%s' "$3/$1"
      else
        printf '%s' "$2/$1"
      fi
      ;;
  esac
}

# Usage: read_train_arguments USER_FOLDER ROOT [argument …]. Sets TRAIN_ARGUMENTS, with defaults for --config and --workdir.
read_train_arguments() {
  local user_folder=$1 root=$2 config="" workdir="" argument
  shift 2
  TRAIN_ARGUMENTS=()
  while (($#)); do
    argument=$1
    case $argument in
      --config | --workdir | --config.data.data_dir)
        (($# > 1)) || die "$argument needs a value"
        set -- "$argument=$2" "${@:3}"
        continue
        ;;
      --config=*) config=$(resolve_path "${argument#*=}" "$user_folder" "$root") ;;
      --workdir=*) workdir=$(resolve_path "${argument#*=}" "$user_folder" "$user_folder") ;;
      --config.data.data_dir=*)
        TRAIN_ARGUMENTS+=("--config.data.data_dir=$(resolve_path "${argument#*=}" "$user_folder" "$root")")
        ;;
      *) TRAIN_ARGUMENTS+=("$argument") ;;
    esac
    shift
  done
  : "${config:=$root/configs/quickstart.py}"
  if [[ -z $workdir ]]; then
    workdir=${config%%:*}
    workdir=$(basename -- "$workdir" .py)
    workdir="$root/runs/$workdir"
  fi
  TRAIN_ARGUMENTS=("--config=$config" "--workdir=$workdir" "${TRAIN_ARGUMENTS[@]}")
}
