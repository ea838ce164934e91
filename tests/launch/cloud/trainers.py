"""Trainers on the machines that begin with everything imported: a machine asks for one, and gets a fork.

Owns a socket that the programs of `fork_client.py` on the machines connect to, until `close`; agents and machines come and go
meanwhile. A fork is a trainer of its machine: it has the environment, folder, streams and arguments of the client, receives
the signals that the client is sent, and leads a session of its own. The client ends as it ended. With a client that is killed
the fork is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path

from tests.fork_server import LONGEST_REQUEST
from tests.forks import Fork


class Trainers:
    """Answers clients until `close`.

    Attributes:
      address: the path of the socket.
    """

    def __init__(self):
        self._folder = tempfile.mkdtemp(prefix="trainers-")  # a socket's path is short, a test's folder may not be
        self.address = str(Path(self._folder, "socket"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(self.address)
        self._socket.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accepts no more clients; those that are there end with their machines."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        """Starts a trainer for one client, passes signals on, and says how the trainer ended."""
        with connection:
            message, descriptors, *_ = socket.recv_fds(connection, LONGEST_REQUEST, 3)
            if not message:  # killed before it asked
                return
            request = json.loads(message)
            stdin, *outputs = descriptors
            process = Fork(
                request["arguments"],
                request["environment"],
                cwd=request["folder"],
                start_new_session=True,
                stdin=stdin,
                outputs=tuple(outputs),
            )
            for descriptor in descriptors:
                os.close(descriptor)
            while process.poll() is None:
                if connection not in select.select([connection, process], [], [])[0]:
                    continue
                if number := connection.recv(16):
                    process.send_signal(int(number))
                else:
                    process.kill()
                    process.wait()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it leaves behind, as the launcher does
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(b"%d" % process.returncode)
