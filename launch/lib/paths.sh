# shellcheck shell=bash
# Reads the trainer's command line as the user meant it in the folder where it was typed.
#
# Owns the meaning of relative paths in --config, --workdir and --config.data.data_dir. Never looks into a config. The
# invariant: TRAIN_ARGUMENTS, set here, means the same from every folder, and each argument crosses byte for byte.

# Usage: resolve_path PATH USER_FOLDER ROOT. Prints PATH made absolute: as the user's folder has it, else the repository's.
resolve_path() {
  case $1 in
    /* | *://*) printf '%s' "$1" ;;
    *)
      # A config may carry an argument after a colon: the file is what stands before it.
      if [[ ! -e "$2/${1%%:*}" && -e "$3/${1%%:*}" ]]; then
        printf '%s' "$3/$1"
      else
        printf '%s' "$2/$1"
      fi
      ;;
  esac
}

# Usage: read_train_arguments USER_FOLDER ROOT [argument …]. Sets TRAIN_ARGUMENTS, with --config and --workdir filled in.
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
