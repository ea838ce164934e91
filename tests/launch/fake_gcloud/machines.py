"""Workers: each a home folder, its processes those local ones that carry its name in their environment.

Destroying a machine ends exactly the processes that were started on it, found by FAKE_MACHINE in their environment.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

COMMANDS = Path(__file__).parent / "bin"


def create(folder: Path, node: str, number: int, workers: int) -> None:
    """Makes empty machines for a TPU VM; `number` tells them from those of an earlier one of the same name."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    for index in range(workers):
        (folder / "machines" / node / str(index)).mkdir(parents=True)
    description = {"number": number, "workers": workers, "coordinator": f"localhost:{port}"}
    (folder / "machines" / node / "description.json").write_text(json.dumps(description))


def homes(folder: Path, node: str) -> list[Path]:
    """Returns the workers' home folders in their order."""
    return sorted((path for path in (folder / "machines" / node).glob("*") if path.is_dir()), key=lambda p: int(p.name))


def start(folder: Path, node: str, index: int, command: str, output) -> subprocess.Popen:
    """Starts a command on a worker as sshd does, in a session of its own."""
    description = json.loads((folder / "machines" / node / "description.json").read_text())
    home = folder / "machines" / node / str(index)
    settings = json.loads((folder / "machine_environment.json").read_text())
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(COMMANDS), "/usr/local/bin", "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "FAKE_MACHINE": machine_name(folder, node),
        "FAKE_COORDINATOR": description["coordinator"],
        "FAKE_WORKERS": str(description["workers"]),
        "FAKE_WORKER": str(index),
        **settings,
    }
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def machine_name(folder: Path, node: str) -> str:
    """Returns what the processes of a TPU VM carry in their environment."""
    return f"{folder}/machines/{node}"


def processes(folder: Path, node: str) -> list[int]:
    """Returns the process numbers on a TPU VM."""
    mark = f"FAKE_MACHINE={machine_name(folder, node)}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def destroy(folder: Path, node: str) -> None:
    """Ends all processes of a TPU VM and removes its disks."""
    while running := [number for number in processes(folder, node) if number != os.getpid()]:
        for number in running:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)  # until the kernel has taken them away
    shutil.rmtree(folder / "machines" / node, ignore_errors=True)
