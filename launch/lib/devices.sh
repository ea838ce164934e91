# shellcheck shell=bash
# Sets JAX's environment variables for virtual CPU devices.
#
# It keeps what the user has set: XLA_FLAGS, GLIBC_TUNABLES, and JAX_PLATFORMS other than cpu.

# XLA:CPU ends the process if a virtual device waits this long for the others; a loaded machine needs more than its 40 s.
RENDEZVOUS_FLAGS="--xla_cpu_collective_call_warn_stuck_timeout_seconds=120"
RENDEZVOUS_FLAGS+=" --xla_cpu_collective_call_terminate_timeout_seconds=1800 --xla_cpu_collective_timeout_seconds=1800"

# A step on the CPU allocates its buffers each time. By default glibc returns large ones to the kernel, so each reuse zeroes every
# page again: a quarter of the step's CPU time. These settings keep them in one heap of huge pages.
HEAP_TUNABLES="glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=2147483648:glibc.malloc.trim_threshold=8589934592"
HEAP_TUNABLES+=":glibc.malloc.arena_max=1"

# Usage: prepare_cpu_devices COUNT. Splits the CPU into COUNT devices; if it is empty, the configuration decides.
prepare_cpu_devices() {
  if [[ -z ${XLA_FLAGS+set} && ${JAX_PLATFORMS:-cpu} == cpu ]]; then
    export XLA_FLAGS="${1:+--xla_force_host_platform_device_count=$1 }$RENDEZVOUS_FLAGS"
  fi
  if [[ ${JAX_PLATFORMS:-cpu} == cpu ]]; then
    export GLIBC_TUNABLES="${GLIBC_TUNABLES-$HEAP_TUNABLES}"
  fi
}
