"""The identity of the process that holds a lock, as the lock stores it.

Other processes read it to name the holder in messages, and to check whether it has died on the same machine.
"""

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
      host: the host name, for messages.
      boot: the boot id and the inode of the PID namespace. A process id has a meaning only within both.
      pid: the process id in that namespace.
      started: the process's start time, in clock ticks since the boot. It distinguishes processes that reuse an id.
      since: the time, in UTC, when it took the lock, for messages.
      command: its command line without the interpreter, at most 200 characters, for messages.
      token: 16 random hex digits, by which the holder recognises its own lock.
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
        """Returns the identity of this process as a holder from now on, with a new token."""
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
        """Parses the output of `to_json`. Returns None for other content, such as a lock file that is still empty."""
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError):
            return None

    def to_json(self) -> bytes:
        """Returns the fields as a JSON object."""
        return json.dumps(dataclasses.asdict(self)).encode()

    def is_dead(self) -> bool:
        """Returns True if the holder ran under this boot and PID namespace and has ended.

        Returns False for a live process, and for one that cannot be checked from here, such as one on another machine.
        """
        return self.boot == _boot() and _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} ({self.command})"


def _boot() -> str:
    """Returns the boot id and the inode of the PID namespace; a new random value if the system has no /proc."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return secrets.token_hex(8)  # equals no stored value, so no holder is taken for dead


def _start_time(pid: int) -> int:
    """Returns `starttime`, field 22 of /proc/PID/stat in proc(5), in clock ticks since the boot; -1 without such a process."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    return int(stat.rpartition(")")[2].split()[19])  # field 2, the name, may hold spaces and ")"; field 3 follows it
