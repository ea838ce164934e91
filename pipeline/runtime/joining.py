"""Waits for the other processes of a run: reports which are missing, obeys signals, and gives up with a message.

`jax.distributed.initialize` waits in C++, where Ctrl-C does not reach it. It prints nothing, and at its time-out it aborts
the process. So a thread makes the call, and this module's shorter time-out comes first. A process reports what it can see:
process 0 counts the connections of the others, and the others probe whether process 0 answers. Nothing else is sent between
processes.
"""

import errno
import pathlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable

from absl import logging
from jax._src import distributed as jax_distributed

from pipeline.errors import ConfigError, MachineError, Preempted

REMINDER_SECONDS = 30.0
_CONNECTIONS = ("/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED = "01"
_PAUSE_SECONDS = 0.2
_PROBE_SECONDS = 5.0
_kept = []  # a thread inside JAX still uses these when the process leaves


def check_arguments(address: str, count: int, index: int) -> None:
    """Refuses arguments that JAX would report by a traceback, or not at all.

    Raises:
      ConfigError: the message names the flag and the value.
    """
    match = re.fullmatch(r"(?P<host>\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})", address)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise ConfigError(f"--coordinator_address={address}: expected host:port of process 0, such as 10.0.0.2:8476")
    if count < 1:
        raise ConfigError(f"--process_count={count}: expected 1 or more")
    if not 0 <= index < count:
        raise ConfigError(f"--process_index={index}: expected 0 to {count - 1}, because --process_count={count}")


def check_port_is_free(address: str) -> None:
    """Refuses a port on which another process of this machine listens; JAX's service would end this process silently.

    Raises:
      MachineError: the port is taken; waiting can help.
    """
    port = int(address.rpartition(":")[2])
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.create_server(("", port), family=family).close()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                continue  # such as a machine without IPv6
            raise MachineError(
                f"--coordinator_address={address}: process 0 cannot listen there: {error.strerror}. Is another run using this "
                "port? End it, or take another port for all processes"
            ) from error


def join(initialize: Callable[[], None], limit_seconds: float) -> bool:
    """Runs JAX's initialisation in a thread and waits for it; returns whether a request to stop came at the last moment.

    Call it in the main thread. SIGTERM or Ctrl-C ends the wait. JAX installs its own handler of SIGTERM when it is done.

    Args:
      initialize: calls `jax.distributed.initialize` with a time-out beyond `limit_seconds`.
      limit_seconds: how long to wait.

    Raises:
      MachineError: the other processes did not connect.
      Preempted: this process was asked to stop.
    """
    failures, done = [], threading.Event()

    def work() -> None:
        try:
            initialize()
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    requests = []  # the handlers only take notes: an exception could land in a logger that swallows it
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: requests.append(signal.Signals(number).name))
    threading.Thread(target=work, name="joining", daemon=True).start()
    started = reminded = time.monotonic()
    while not done.wait(_PAUSE_SECONDS):
        now = time.monotonic()
        if requests:
            _forget()
            raise Preempted(f"{requests[0]} while waiting for the other processes; nothing had begun")
        if now - started >= limit_seconds:
            who = _waiting()
            _forget()
            raise MachineError(f"gave up after {now - started:.0f} seconds: {who}. Start all processes again")
        if now - reminded >= REMINDER_SECONDS:
            reminded = now
            logging.warning("waiting for %.0f seconds, of at most %.0f: %s", now - started, limit_seconds, _waiting())
    if failures:
        raise failures[0]
    return bool(requests)


def announce(address: str, count: int, index: int, limit_seconds: float) -> None:
    """Logs which processes this one will wait for."""
    awaited = f"process 0 at {address}" if index else "process 1" if count == 2 else f"processes 1 to {count - 1}"
    logging.info("process %d of %d: waiting up to %.0f seconds for %s", index, count, limit_seconds, awaited)


def _waiting() -> str:
    """Returns which processes are missing, as far as this one can see."""
    state = jax_distributed.global_state
    address = state.coordinator_address
    if address is None:
        return "asking Cloud TPU's metadata for the other hosts of the slice"
    who = f"process {state.process_id} of {state.num_processes}"
    host, _, port = address.rpartition(":")
    if state.process_id == 0:
        peers = _connected(int(port))[1:]  # its own connection is one of them
        missing = state.num_processes - 1 - len(peers)
        of = "process 1" if state.num_processes == 2 else f"{missing} of processes 1 to {state.num_processes - 1}"
        seen = f"; here are those from {', '.join(sorted(set(peers)))}" if peers else ""
        return (
            f"{who} awaits {of} at {address}{seen}" if missing > 0 else f"{who}: all have connected and none has begun"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()
    except OSError as error:
        return f"{who} awaits process 0, and {address} does not answer: {error.strerror or error}"
    return f"{who} has reached process 0 at {address}, which awaits others; its log says how many"


def _connected(port: int) -> list[str]:
    """Returns the addresses connected to a port of this machine; those of the machine itself come first."""
    found = []
    for table in _CONNECTIONS:
        try:
            rows = [line.split() for line in pathlib.Path(table).read_text().splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            local, remote, status = row[1:4]
            if status == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                found.append(_as_text(remote.rpartition(":")[0]))
    return sorted(found, key=lambda text: text not in ("127.0.0.1", "::1"))


def _as_text(address: str) -> str:
    """Formats an address of the kernel's tables, which is hexadecimal in words of the machine's byte order."""
    words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
    packed = b"".join(words)
    if len(packed) == 16 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
        packed = packed[12:]  # IPv4 in IPv6
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _forget() -> None:
    """Makes `jax.distributed.shutdown` do nothing; it would wait for processes that never connected."""
    state = jax_distributed.global_state
    _kept.append((state.client, state.service))
    state.client = state.service = None
