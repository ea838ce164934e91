# shellcheck shell=bash
# The command line, launch/pod.env and the configuration, put together: what one run of tpu_pod.sh works with.
#
# Owns the settings' names and defaults. Never calls gcloud. Order of precedence: option, environment of gcloud
# (CLOUDSDK_…), pod.env, the configuration's own config.launch.

readonly SETTINGS=(PROJECT ZONE BUCKET NETWORK SERVICE_ACCOUNT POLL_SECONDS GRACE_SECONDS STOP_SECONDS PROVISION_SECONDS
  STALL_SECONDS CALL_SECONDS LONG_CALL_SECONDS LOCK_SECONDS MAX_REQUESTS MAX_SETUPS PLAN)

# Sets every setting to its default.
reset_options() {
  CONFIG="" NAME="" TYPE="" WORKDIR="" DATA="" MOUNT="" WORKER="" PROVISIONING="" DRY_RUN="" ASSUME_YES="" KEEP="" FORCE=""
  MOUNT_BUCKET="" MAX_RESTARTS=20 DEADLINE_HOURS=0 ENVIRONMENT=() OVERRIDES=()
  PROJECT=${CLOUDSDK_CORE_PROJECT:-} ZONE=${CLOUDSDK_COMPUTE_ZONE:-} BUCKET="" NETWORK="" SERVICE_ACCOUNT=""
  POLL_SECONDS=20      # between two looks
  GRACE_SECONDS=120    # for the other workers to end by themselves after one has failed
  STOP_SECONDS=600     # for a checkpoint when asked to stop
  PROVISION_SECONDS=3600 # in PROVISIONING or CREATING before asking anew; the queue itself has no limit but --deadline
  STALL_SECONDS=7200   # without a line in the log before the job is ended and started again
  CALL_SECONDS=300     # for one call of gcloud
  LONG_CALL_SECONDS=1800 # for an upload, a set-up, a deletion
  LOCK_SECONDS=300     # between two renewals of the lock in the run's folder
  PLAN=yes             # whether to compile the step for the slice before asking for it
  MAX_REQUESTS=6       # refusals or failures of the slice in a row
  MAX_SETUPS=10        # failures in a row to bring code and packages to a slice, which is billed meanwhile
}

# Usage: read_settings FILE. Takes over the lines NAME=value of a settings file that are not set yet.
read_settings() {
  local line key
  [[ -e $1 ]] || return 0
  while IFS= read -r line || [[ -n $line ]]; do
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    key=${line%%=*}
    [[ $line == *=* && " ${SETTINGS[*]} " == *" $key "* ]] || die "$1: unknown setting: $line; known are ${SETTINGS[*]}"
    case $key in
      PROJECT) : "${PROJECT:=${line#*=}}" ;;
      ZONE) : "${ZONE:=${line#*=}}" ;;
      PLAN) [[ $PLAN == no ]] || PLAN=${line#*=} ;;
      *) printf -v "$key" '%s' "${line#*=}" ;;
    esac
  done <"$1"
}

# Usage: read_options argument … Sets SUBCOMMAND and the options.
read_options() {
  SUBCOMMAND=up
  case ${1:-} in
    up | status | logs | ssh | stop | resume | down | simulate) SUBCOMMAND=$1 && shift ;;
    -h | --help | help) usage && exit 0 ;;
    -*) ;;
    ?*) die "unknown command $1; see $0 --help" ;;
  esac
  while (($#)); do
    case $1 in
      --) OVERRIDES+=("${@:2}") && break ;;
      --config.*=*) OVERRIDES+=("$1") && shift && continue ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    case $1 in
      --spot | --reserved | --on-demand) PROVISIONING=${1#--} && shift ;;
      --mount) MOUNT=yes && shift ;;
      --dry-run) DRY_RUN=yes && shift ;;
      --yes) ASSUME_YES=yes && shift ;;
      --keep) KEEP=yes && shift ;;
      --force) FORCE=yes && shift ;;
      --no-plan) PLAN=no && shift ;;
      --help | -h) usage && exit 0 ;;
      --config | --name | --type | --zone | --project | --workdir | --data | --env | --max-restarts | --deadline | --worker)
        (($# > 1)) || die "$1 needs a value"
        case $1 in
          --config) CONFIG=$2 ;;
          --name) NAME=$2 ;;
          --type) TYPE=$2 ;;
          --zone) ZONE=$2 ;;
          --project) PROJECT=$2 ;;
          --workdir) WORKDIR=${2%/} ;;
          --data) DATA=$2 ;;
          --env) [[ $2 =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || die "--env: expected NAME=value" && ENVIRONMENT+=("$2") ;;
          --max-restarts) MAX_RESTARTS=$(whole_number "$1" "$2") ;;
          --deadline) DEADLINE_HOURS=$2 ;;
          --worker) WORKER=$(whole_number "$1" "$2") ;;
        esac
        shift 2
        ;;
      *) die "unknown option $1; overrides such as --config.key=value may stand after --; see $0 --help" ;;
    esac
  done
}

whole_number() {
  [[ $2 =~ ^[0-9]+$ ]] || die "$1=$2: expected a whole number"
  printf '%s' "$2"
}

# Usage: complete_options USER_FOLDER. Fills in what follows from the rest, and refuses what cannot work.
complete_options() {
  local entry
  read_settings "$ROOT/launch/pod.env"
  if [[ -n $CONFIG ]]; then
    CONFIG=$(resolve_path "$CONFIG" "$1" "$ROOT")
    [[ -e ${CONFIG%%:*} ]] || die "--config=$CONFIG: there is no such file"
    entry=$(basename -- "${CONFIG%%:*}" .py)
    : "${NAME:=${entry//_/-}}"
  fi
  [[ -n $NAME ]] || die "name the run with --name, or its configuration with --config"
  [[ $NAME =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    die "--name=$NAME: expected lower-case letters, digits and hyphens, at most 40, beginning with a letter"
  [[ $DEADLINE_HOURS =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--deadline=$DEADLINE_HOURS: expected hours"
  DEADLINE_SECONDS=$(awk -v hours="$DEADLINE_HOURS" 'BEGIN { printf "%d", hours * 3600 }')
}

# Usage: need_place. Refuses to go on without a project and a zone.
need_place() {
  local where="launch/pod.env (see pod.env.template)"
  [[ -n $PROJECT ]] || die "which Google Cloud project? Give --project, or write PROJECT into $where"
  [[ -n $ZONE ]] || die "which zone? Give --zone, or write ZONE into $where"
}

# Usage: complete_run. What only `up` needs: the configuration's slice, the folder of the run, the trainer's arguments.
complete_run() {
  local relative
  [[ -n $CONFIG ]] || die "name the configuration with --config"
  if [[ -z $WORKDIR ]]; then
    [[ -n $BUCKET ]] || die "where does the run go? Give --workdir gs://…, or write BUCKET into launch/pod.env"
    WORKDIR="gs://${BUCKET#gs://}/runs/$NAME"
  fi
  [[ $WORKDIR == gs://?* || $WORKDIR == /* ]] ||
    die "--workdir=$WORKDIR: expected gs://…, or an absolute path that all workers share"
  relative=${CONFIG#"$ROOT/"}
  [[ $relative != /* ]] || die "--config=$CONFIG: the workers get this checkout's tracked files, so it must be one of them"
  git -C "$ROOT" ls-files --error-unmatch -- "${relative%%:*}" >/dev/null 2>&1 ||
    die "--config=$relative is not tracked by git, and only tracked files reach the workers: git add it"
  # The platform, because JAX on a worker that shows no TPU takes its CPU, and trains alone in the folder of the others.
  TRAIN_ARGUMENTS=("--config=$relative" "--workdir=$WORKDIR" --config.platform=tpu)
  if [[ -n $MOUNT ]]; then
    [[ $DATA == gs://?* ]] || die "--mount needs --data gs://…"
    MOUNT_BUCKET=${DATA#gs://}
    MOUNT_BUCKET=${MOUNT_BUCKET%%/*}
    relative=${DATA#"gs://$MOUNT_BUCKET"}
    TRAIN_ARGUMENTS+=("--config.data.data_dir=../data$relative") # the trainer runs in ~/.pods/NAME/code
  elif [[ -n $DATA ]]; then
    TRAIN_ARGUMENTS+=("--config.data.data_dir=$DATA")
  fi
  TRAIN_ARGUMENTS+=("${OVERRIDES[@]}")
  # What tells this job from another: its arguments, and the names (never the values) of its environment.
  KEY=$(printf '%s\0' "${TRAIN_ARGUMENTS[@]}" "${ENVIRONMENT[@]%%=*}" | sha256sum | cut -c1-12)
}
