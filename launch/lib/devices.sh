# shellcheck shell=bash
# Chooses the devices of a run on this machine through JAX's own environment variables.
#
# Owns the choice of virtual CPU devices. Never overrides what the user set: XLA_FLAGS, and JAX_PLATFORMS other than cpu.

# XLA:CPU ends the process when a virtual device waits this long for the others; a loaded machine needs more than its 40 s.
RENDEZVOUS_FLAGS="--xla_cpu_collective_call_warn_stuck_timeout_seconds=120"
RENDEZVOUS_FLAGS+=" --xla_cpu_collective_call_terminate_timeout_seconds=1800 --xla_cpu_collective_timeout_seconds=1800"

# Usage: use_virtual_devices COUNT. A machine with an accelerator still uses it: the flag only splits the CPU.
use_virtual_devices() {
  if [[ -z ${XLA_FLAGS+set} && ${JAX_PLATFORMS:-cpu} == cpu ]]; then
    export XLA_FLAGS="--xla_force_host_platform_device_count=$1 $RENDEZVOUS_FLAGS"
  fi
}
