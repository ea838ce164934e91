# shellcheck shell=bash
# What is known of each TPU type before one exists: chips, machines, JAX devices, runtime image, price.
#
# Owns the naming rules: a type of generation v2, v3, v4 or v5p counts TensorCores (two a chip), one of v5e or v6e counts
# chips. Never asks the service: lib/checks.sh does. Sources: the generations' pages of the Cloud TPU documentation; prices are
# those of launch/prices.txt.

# Usage: know_accelerator TYPE. Sets GENERATION, CHIPS, HOSTS, DEVICES, RUNTIME_VERSION and CHIP_HOUR_DOLLARS.
know_accelerator() {
  local type=$1 size=${1##*-} per_chip=2
  GENERATION=${type%-*}
  [[ $type == *-* && $size =~ ^[1-9][0-9]*$ ]] || die "--type=$type: expected a TPU type such as v3-32 or v5litepod-16"
  case $GENERATION in
    v2) RUNTIME_VERSION=tpu-ubuntu2204-base ;;
    v3) RUNTIME_VERSION=tpu-ubuntu2204-base ;;
    v4) RUNTIME_VERSION=tpu-ubuntu2204-base ;;
    v5p) RUNTIME_VERSION=v2-alpha-tpuv5 ;;
    v5litepod) RUNTIME_VERSION=v2-alpha-tpuv5-lite per_chip=1 ;;
    v6e) RUNTIME_VERSION=v2-alpha-tpuv6e per_chip=1 ;;
    v5e) die "--type=$type: Cloud TPU calls this type v5litepod-$size" ;;
    tpu7x | v7x | ironwood) die "--type=$type: TPU7x is served through GKE only; see launch/gke and docs/pods.md" ;;
    *) die "--type=$type: unknown generation; known are v2, v3, v4, v5litepod, v5p and v6e (TPU7x: launch/gke)" ;;
  esac
  ((size % per_chip == 0)) || die "--type=$type: a chip of $GENERATION has two cores, so the number must be even"
  CHIPS=$((size / per_chip))
  # A machine holds 4 chips; the single-machine types of v5e and v6e hold 1, 4 or 8.
  if ((per_chip == 1 && CHIPS <= 8)); then
    HOSTS=1
  else
    ((CHIPS % 4 == 0)) || die "--type=$type: slices of $GENERATION come in multiples of 4 chips"
    HOSTS=$((CHIPS / 4))
  fi
  case $GENERATION in
    v2 | v3) DEVICES=$size ;; # each core is a JAX device
    *) DEVICES=$CHIPS ;;
  esac
  CHIP_HOUR_DOLLARS=$(awk -v name="${GENERATION/#v5litepod/v5e}" '$1 == name { print $2 }' "$ROOT/launch/prices.txt")
  [[ $CHIP_HOUR_DOLLARS =~ ^[0-9.]+$ ]] || die "launch/prices.txt has no price for ${GENERATION/#v5litepod/v5e}"
}

# Usage: slice_dollars HOURS. Prints the dollars of the whole slice for that many hours.
slice_dollars() {
  awk -v hours="$1" -v chips="$CHIPS" -v price="$CHIP_HOUR_DOLLARS" 'BEGIN { printf "%.2f", hours * chips * price }'
}
