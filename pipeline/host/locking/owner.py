"""The description of a lock's holder, which is stored in the lock."""

import dataclasses
import datetime
import json
import os
import pathlib
import secrets
import shlex
import socket
import sys


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that holds a lock.

    Attributes:
      host: the name of its machine.
      boot: the boot id of the machine and the container's PID namespace, which make the process id unique.
      pid: its process id there.
      started: its start, in clock ticks since the boot; a reused process id has another.
      since: when it took the lock, for messages.
      command: its command, for messages.
      token: a random word by which a holder recognises its own lock.
    """

    host: str
    boot: str
    pid: int
    started: int
    since: str
    command: str
    token: str

    @classmethod
    def this_process(cls) -> "Owner":
        """Returns the description of this process, as the holder from now on."""
        return cls(
            host=socket.gethostname(),
            boot=_boot(),
            pid=os.getpid(),
            started=_start_time(os.getpid()),
            since=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            command=shlex.join(sys.argv)[:200],
            token=secrets.token_hex(8),
        )

    @classmethod
    def from_json(cls, content: bytes) -> "Owner | None":
        """Parses what `to_json` wrote; None if it is anything else, such as not yet written."""
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError):
            return None

    def to_json(self) -> bytes:
        """Returns the holder as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def is_dead(self) -> bool:
        """Returns whether the holder was a process of this machine that has ended; False if that is unknown."""
        return self.boot == _boot() and _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} ({self.command})"


def _boot() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return secrets.token_hex(8)  # matches no other process


def _start_time(pid: int) -> int:
    """Returns the field `starttime` of proc(5); -1 if there is no such process."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(stat.rpartition(")")[2].split()[19])
