# shellcheck shell=bash
# What is checked before anything costs money.
#
# Owns the questions and the words of the refusals. Never changes anything, in the cloud or here.

# Usage: choose_python. Sets VENV_PYTHON: the checkout's .venv, or a small one with just what reads a configuration.
choose_python() {
  VENV_PYTHON="$ROOT/.venv/bin/python"
  is_complete "$ROOT" "$ROOT/requirements.txt" && return 0
  grep '^ml_collections' "$ROOT/requirements.txt" >"$STATE/requirements.txt"
  REQUIREMENTS="$STATE/requirements.txt" bootstrap "$ROOT/launch"
}

# Usage: check_config. Loads the configuration as the trainer will, takes over its slice, and compares batch and slice.
check_config() {
  local answers status=0 config_type="" config_spot="" line batch_size=0
  answers=$(cd -- "$ROOT" && "$VENV_PYTHON" launch/lib/inspect_config.py "--config=$CONFIG" "${OVERRIDES[@]}" \
    2>"$STATE/error") || status=$?
  if ((status != 0)); then
    note "$(tail -n 1 "$STATE/error")"
    exit "$status"
  fi
  while IFS= read -r line; do
    case $line in
      accelerator_type=*) config_type=${line#*=} ;;
      spot=*) config_spot=${line#*=} ;;
      batch_size=*) batch_size=${line#*=} ;;
      duration=*) DURATION=${line#*=} ;;
    esac
  done <<<"$answers"
  : "${TYPE:=$config_type}"
  : "${PROVISIONING:=${config_spot:+spot}}"
  : "${PROVISIONING:=on-demand}"
  know_accelerator "$TYPE"
  BATCH_SIZE=$batch_size
  ((batch_size % DEVICES == 0)) ||
    die "config.batch_size=$batch_size does not divide over the $DEVICES devices of $TYPE;" \
      "the next that does is $(((batch_size / DEVICES + 1) * DEVICES))"
}

# Usage: check_memory. Asks the planner, where it can run, whether the step fits the slice and how long the run takes.
check_memory() {
  local status=0 planner=("$VENV_PYTHON" -m pipeline.plan "--config=$CONFIG" "--topology=$TYPE")
  [[ -z $DRY_RUN && $PLAN == yes ]] || return 0
  if ! "$VENV_PYTHON" -c 'import jax, libtpu' >/dev/null 2>&1; then
    note "no memory plan: that needs the TPU compiler; see docs/plan.md"
    return 0
  fi
  say "planning the run with the TPU compiler: a step that is not known yet takes up to half an hour (--no-plan leaves it out)"
  run_planner "${planner[@]}" ${DATA:+"--config.data.data_dir=$DATA"} "${OVERRIDES[@]}" || status=$?
  # What the workers can read may be closed to this machine, and the planner knows the sizes of ImageNet without it.
  if [[ -n $DATA && $status != 0 && $status != "$TRAINING_ERROR" ]]; then
    status=0
    run_planner "${planner[@]}" "${OVERRIDES[@]}" || status=$?
  fi
  cat -- "$STATE/plan" >&2
  case $status in
    0) ;;
    "$TRAINING_ERROR") die "the plan says no: $(tail -n 1 "$STATE/error")" ;;
    # Any other says that there is no plan, such as for a dataset or a size of slice that the planner does not know.
    *) note "no memory plan: $(tail -n 1 "$STATE/error")" ;;
  esac
}

# Usage: run_planner COMMAND …
run_planner() { (cd -- "$ROOT" && "$@") >"$STATE/plan" 2>"$STATE/error"; }

# Usage: check_account. gcloud is there and logged in.
check_account() {
  [[ -n $DRY_RUN ]] || command -v gcloud >/dev/null 2>&1 ||
    die "gcloud is not installed; see the Google Cloud CLI's installation page, then run: gcloud auth login"
  call_gcloud "$CALL_SECONDS" auth list --filter=status:ACTIVE "--format=value(account)" || die "$(error_line)"
  [[ -n $REPLY_TEXT ]] || die "gcloud is not logged in; run: gcloud auth login"
}

# Usage: check_type. The zone has the type, and the project may use it.
check_type() {
  local outcome=0
  call_tpu "$CALL_SECONDS" accelerator-types describe "$TYPE" || outcome=$?
  case $outcome in
    0) ;;
    "$NOT_FOUND") die "zone $ZONE has no $TYPE; see: gcloud compute tpus accelerator-types list --zone=$ZONE" ;;
    "$DENIED") die "project $PROJECT does not let this account use Cloud TPU (is the API enabled?): $(error_line)" ;;
    *) die "cannot ask for the types of zone $ZONE: $(error_line)" ;;
  esac
}

# Usage: check_bucket. The bucket is there and near the zone; that it can be written is checked by taking the run's lock.
check_bucket() {
  local outcome=0 bucket location region=${ZONE%-*}
  [[ $WORKDIR == gs://* ]] || return 0
  bucket=${WORKDIR#gs://}
  bucket="gs://${bucket%%/*}"
  call_gcloud "$CALL_SECONDS" storage buckets describe "$bucket" "--format=value(location)" || outcome=$?
  case $outcome in
    0) ;;
    "$NOT_FOUND") die "there is no bucket $bucket; make it: gcloud storage buckets create $bucket --location=$region" ;;
    "$DENIED") die "no permission to look at $bucket: $(error_line)" ;;
    *) die "cannot ask for $bucket: $(error_line)" ;;
  esac
  location=${REPLY_TEXT,,}
  case $location in
    "$region") ;;
    us | eu | asia) [[ ${region/europe/eu} == "$location"* ]] || far_bucket "$bucket" "$location" "$region" ;;
    *-*) far_bucket "$bucket" "$location" "$region" ;;
    *) note "$bucket is in $location: check that $region is part of it" ;;
  esac
}

far_bucket() { die "$1 is in $2 and the slice in $3: every picture would be slow and billed as traffic; use a bucket in $3"; }

# Usage: confirm_cost. Says what an hour costs, and asks before the first slice is requested.
confirm_cost() {
  local answer
  say "the run is $DURATION. $TYPE is $CHIPS chips in $HOSTS machines: $CHIPS chip-hours an hour," \
    "about $(slice_dollars 1) US dollars an hour at list price on demand (asked for: $PROVISIONING)," \
    "until it ends or: $0 down --name $NAME"
  [[ -z $ASSUME_YES && -z $DRY_RUN ]] || return 0
  [[ -t 0 ]] || die "nobody to ask; give --yes to go on without"
  read -r -p "Ask for it? [y/N] " answer
  [[ $answer == [yY]* ]] || die "nothing was asked for"
}
