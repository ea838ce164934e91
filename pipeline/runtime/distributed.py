"""Starts JAX's multi-controller runtime.

`initialize` must run before anything touches a device, also in a single process. It starts JAX's preemption service, by which
all processes of a run agree on the step at which they save and leave (`stopping.py`). `joining.py` waits for the other
processes.
"""

import functools
import importlib.util
import os
import pathlib
import signal
import socket

import jax
import numpy as np
from jax.experimental import multihost_utils

from pipeline.errors import ConfigError, MachineError
from pipeline.runtime import joining, stopping

ALONE_SECONDS = 10 * 365 * 86400  # a process without peers waits for nobody's heartbeat; it may sleep with its laptop
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")  # the variables that gRPC reads
_WITHOUT_PROXY = ("no_grpc_proxy", "no_proxy")
INITIALIZATION_TIMEOUT_SECONDS = 1800  # machines of one slice can come up many minutes apart after a preemption


def initialize(
    coordinator_address: str | None = None,
    process_count: int | None = None,
    process_index: int | None = None,
    *,
    peer_seconds: int = 100,
) -> None:
    """Connects this process to the others of the run.

    The arguments come first, then Cloud TPU's metadata, then a run of one process on this machine.

    Args:
      coordinator_address: host:port of process 0.
      process_count: number of processes of the run.
      process_index: number of this process, from 0.
      peer_seconds: after this long without a heartbeat of one process, or after one has ended alone, the others end
        themselves.

    Raises:
      ConfigError: only some of the three arguments are given, or one is invalid.
      MachineError: the other processes did not connect in time.
      Preempted: this process was asked to stop while it waited.
    """
    given = [value is not None for value in (coordinator_address, process_count, process_index)]
    if any(given) and not all(given):
        raise ConfigError("--coordinator_address, --process_count and --process_index go together: give all or none")
    alone, place = False, None
    if coordinator_address is not None and process_count is not None and process_index is not None:
        place = coordinator_address, process_count, process_index
        joining.check_arguments(*place)
        if process_index == 0:
            joining.check_port_is_free(coordinator_address)
        _connect_directly(coordinator_address)
        arguments = {
            "coordinator_address": coordinator_address,
            "num_processes": process_count,
            "process_id": process_index,
        }
    elif _on_cloud_tpu():
        arguments = {}
    else:
        alone = True
        address = f"localhost:{_free_port()}"
        _connect_directly(address)
        arguments = {"coordinator_address": address, "num_processes": 1, "process_id": 0}
        # The virtual CPU devices of one process need no network to sum: with gloo, a small network's step took 5 times as
        # long.
        jax.config.update("jax_cpu_collectives_implementation", None)
    connect = functools.partial(
        jax.distributed.initialize,
        **arguments,
        initialization_timeout=2 * INITIALIZATION_TIMEOUT_SECONDS,  # aborts the process, so `join` must give up earlier
        heartbeat_timeout_seconds=ALONE_SECONDS if alone else peer_seconds,
        shutdown_timeout_seconds=peer_seconds,
    )
    asked_to_stop = False
    if alone:
        connect()
    else:
        if place is not None and place[1] > 1:
            joining.announce(*place, INITIALIZATION_TIMEOUT_SECONDS)
        asked_to_stop = joining.join(connect, INITIALIZATION_TIMEOUT_SECONDS)
    stopping.listen(peer_seconds)
    if asked_to_stop:
        os.kill(os.getpid(), signal.SIGTERM)  # now it reaches all processes


def split_cpu(devices: int | None) -> None:
    """Splits the CPU into several JAX devices, unless XLA_FLAGS says how many."""
    if devices is not None and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", devices)


def check_platform(expected: str | None) -> None:
    """Refuses to run on another platform than the configuration names.

    JAX falls back to the CPU if it finds no accelerator. A run of days must not do that. A pod host without a visible TPU
    would train alone, as a run of one process, in the directory of the others.

    Raises:
      MachineError: JAX found another platform.
    """
    found = jax.default_backend()
    if expected is not None and found != expected:
        raise MachineError(
            f"config.platform={expected!r}, but JAX found {jax.device_count()} device(s) of platform {found!r}: "
            "is another process holding the accelerator, or is jax installed without it?"
        )


def as_on_process_0(value: bool) -> bool:
    """Returns process 0's value on every process, so all of them take the same branch."""
    if jax.process_count() == 1:
        return value
    with jax.transfer_guard("allow"):
        return bool(multihost_utils.broadcast_one_to_all(np.bool_(value)))


def _on_cloud_tpu() -> bool:
    wanted = os.environ.get("JAX_PLATFORMS", "tpu")
    devices = [*pathlib.Path("/dev").glob("accel*"), *pathlib.Path("/dev").glob("vfio/[0-9]*")]
    return "tpu" in wanted and bool(devices) and importlib.util.find_spec("libtpu") is not None


def _connect_directly(address: str) -> None:
    """Keeps gRPC from asking the machine's proxy for process 0, and then waiting forever, even for a process without peers.

    https://github.com/grpc/grpc/blob/master/doc/environment_variables.md
    """
    if any(os.environ.get(name) for name in _PROXIES):
        others = next(filter(None, map(os.environ.get, _WITHOUT_PROXY)), None)
        host = address.rpartition(":")[0].strip("[]")
        os.environ[_WITHOUT_PROXY[0]] = f"{others},{host}" if others else host
    jax.config.update("jax_check_proxy_envs", False)  # it only warns of them


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
