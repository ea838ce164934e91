# shellcheck shell=bash
# Makes virtual CPU devices usable, through JAX's own environment variables.
#
# Never overrides what the user set: XLA_FLAGS, and JAX_PLATFORMS other than cpu.

# XLA:CPU ends the process when a virtual device waits this long for the others; a loaded machine needs more than its 40 s.
RENDEZVOUS_FLAGS="--xla_cpu_collective_call_warn_stuck_timeout_seconds=120"
RENDEZVOUS_FLAGS+=" --xla_cpu_collective_call_terminate_timeout_seconds=1800 --xla_cpu_collective_timeout_seconds=1800"

# Usage: prepare_cpu_devices COUNT. Splits the CPU into so many devices; where COUNT is empty the configuration says how many.
prepare_cpu_devices() {
  if [[ -z ${XLA_FLAGS+set} && ${JAX_PLATFORMS:-cpu} == cpu ]]; then
    export XLA_FLAGS="${1:+--xla_force_host_platform_device_count=$1 }$RENDEZVOUS_FLAGS"
  fi
}
