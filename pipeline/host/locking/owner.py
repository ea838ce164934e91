"""Who holds a lock, as it is written down in the lock itself, for people and for the next start."""

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
      host: its machine's name.
      boot: the boot of that machine and the container's space of process ids, so that a number is not taken for another's.
      pid: its number there.
      started: when it started, in clock ticks since the boot; a number that was given again has another.
      since: when it took the lock, for people.
      command: what it runs, for people.
      token: random, so that a holder knows its own lock again.
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
        """Returns this process as the holder from now on."""
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
        """Returns what `to_json` wrote; None when it is anything else, such as not yet written."""
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError):
            return None

    def to_json(self) -> bytes:
        """Returns the holder as JSON."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def is_dead(self) -> bool:
        """Says whether this is a process of this very machine that has ended; False when that cannot be known."""
        return self.boot == _boot() and _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} ({self.command})"


def _boot() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return secrets.token_hex(8)  # never another's


def _start_time(pid: int) -> int:
    """Returns the field `starttime` of proc(5); -1 when there is no such process."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(stat.rpartition(")")[2].split()[19])
