"""Machines: each a home folder, a metadata server, and local processes that began with its startup script.

Owns those folders and processes. A process belongs to the machine whose name is in its environment (`BED_MACHINE`), which
its children inherit. Programs that a machine finds are those of a whitelist: nothing that a startup script does can reach
the services of the real machine, such as its systemd.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cloud.metadata import Metadata
from cloud.slices import MOMENT_SECONDS

# What a TPU VM has that startup scripts use; and the stand-ins of `worker_bin`.
TOOLS = """
  awk basename bash cat chmod cmp cp curl cut date df dirname env expr false find flock grep gzip head hostname id kill ln ls
  mkdir mktemp mv nohup ps readlink rm rmdir sed seq setsid sh sha256sum sleep sort stat tail tar tee timeout touch tr true
  uname uniq wc xargs
"""
STAND_INS = Path(__file__).parent / "worker_bin"


@dataclass
class Machine:
    """One worker of a node."""

    name: str
    index: int
    home: Path
    metadata: Metadata
    environment: dict[str, str]
    boots: int = 0


@dataclass
class Machines:
    """All machines of the cloud.

    Attributes:
      folder: where their homes are.
      services: the environment that points programs to the loopback services.
      settings: more environment for all machines.
      token: the access token of their service account.
      silent: (how many nodes were made before, worker) of machines that never come up.
      nodes: the machines of each node.
    """

    folder: Path
    services: dict[str, str]
    token: str
    zone: str
    settings: dict[str, str] = field(default_factory=dict)
    silent: set[tuple[int, int]] = field(default_factory=set)
    nodes: dict[str, list[Machine]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def create(self, node: str, number: int, workers: int) -> None:
        """Makes empty machines for a node; `number` tells them from those of an earlier node of the same name."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
        machines = []
        for index in range(workers):
            home = self.folder / f"{node}-{number}" / str(index)
            home.mkdir(parents=True)
            (home / "tmp").mkdir()
            metadata = Metadata(self.token, f"t1v-n-{number:08x}-w-{index}", self.zone, {})
            name = f"{home.parent}/{index}"
            environment = {
                "PATH": str(self._programs()),
                "HOME": str(home),
                "TMPDIR": str(home / "tmp"),
                "LANG": "C.UTF-8",
                "GCE_METADATA_HOST": metadata.host,
                "BED_MACHINE": name,
                "BED_NUMBER": str(number),
                "BED_WORKER": str(index),
                "BED_WORKERS": str(workers),
                "BED_COORDINATOR": coordinator,
                "BED_PYTHON": sys.executable,
            }
            machines.append(Machine(name, index, home, metadata, environment))
        with self._lock:
            self.nodes[node] = machines
            self._numbers = getattr(self, "_numbers", {}) | {node: number}

    def start(self, node: str, described: dict) -> None:
        """Turns the machines of a node on; `described` is the node's JSON."""
        endpoints = described["networkEndpoints"]
        listed = ",".join(f"{index}:8470:{endpoint['ipAddress']}" for index, endpoint in enumerate(endpoints))
        with self._lock:
            for machine in self.nodes[node]:
                own = {
                    "agent-worker-number": str(machine.index),
                    "worker-network-endpoints": listed,
                    "accelerator-type": described.get("acceleratorType", ""),
                }
                machine.metadata.set("instance/attributes", described.get("metadata", {}) | (own if endpoints else {}))
                if (self._numbers[node], machine.index) not in self.silent:
                    self._boot(machine)

    def stop(self, node: str, worker: int) -> None:
        """Ends everything on a machine; its disk stays."""
        with self._lock:
            name = self.nodes[node][worker].name
            _end(lambda: processes([name]))

    def reboot(self, node: str, worker: int) -> None:
        """Ends everything on a machine and boots it again."""
        with self._lock:
            self.stop(node, worker)
            self._boot(self.nodes[node][worker])

    def freeze(self, node: str, worker: int) -> None:
        """Stops everything on a machine: it is there and does nothing."""
        with self._lock:
            for number in processes([self.nodes[node][worker].name]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGSTOP)

    def notify(self, node: str, path: str = "instance/preempted", value: str = "TRUE") -> None:
        """Changes a value on the metadata servers of a node."""
        for machine in self.nodes[node]:
            machine.metadata.set(path, value)

    def destroy(self, node: str, soon: bool = False) -> None:
        """Ends the machines of a node and takes their disks away; `soon`, when an answer that is on its way has arrived."""

        def finish() -> None:
            if soon:
                time.sleep(MOMENT_SECONDS)
            with self._lock:
                machines = self.nodes.pop(node, [])
                names = [machine.name for machine in machines]
                _end(lambda: processes(names))
                for machine in machines:
                    machine.metadata.close()
                    shutil.rmtree(machine.home, ignore_errors=True)

        if soon:
            threading.Thread(target=finish, daemon=True).start()
        else:
            finish()

    def alive(self) -> list[int]:
        """The processes on all machines."""
        with self._lock:
            return processes([machine.name for machines in self.nodes.values() for machine in machines])

    def close(self) -> None:
        """Ends all machines."""
        for node in list(self.nodes):
            self.destroy(node)

    def _programs(self) -> Path:
        """The folder of the programs that a machine finds."""
        folder = self.folder / "bin"
        if not folder.exists():
            folder.mkdir(parents=True)
            for name in TOOLS.split():
                if found := shutil.which(name):
                    (folder / name).symlink_to(found)
            for program in STAND_INS.iterdir():
                (folder / program.name).symlink_to(program)
            python = folder / "python3"  # with nothing but its standard library, and so started sooner
            python.write_text(f'#!/bin/sh\nexec "{getattr(sys, "_base_executable", sys.executable)}" -S "$@"\n')
            python.chmod(0o755)
        return folder

    def _boot(self, machine: Machine) -> None:
        """Runs the startup script as the guest agent does: written to a file that is executed."""
        script = machine.metadata.find("instance/attributes/startup-script")
        if script is None:
            return
        machine.boots += 1
        program = machine.home / "tmp" / f"startup-script-{machine.boots}"
        program.write_text(script)
        program.chmod(0o700)
        with (machine.home / "startup.log").open("a") as log:
            subprocess.Popen(
                [str(program)],
                cwd="/",
                env=machine.environment | self.services | self.settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def processes(names: Iterable[str]) -> list[int]:
    """The processes that belong to machines of these names."""
    marks = {f"BED_MACHINE={name}".encode() for name in names}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if marks & set((entry / "environ").read_bytes().split(b"\0")):
                    found.append(int(entry.name))
    return found


def _end(which) -> None:
    """Ends processes until there are none; a process that has ended and was not waited for has no environment."""
    while running := which():
        for number in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.005)
