"""Trainers that begin with everything imported, for programs that start trainers: a program asks for one, and gets a fork.

Owns a socket that processes of `fork_client.py` connect to, until `close`: on the launcher's machines, or as the trials of a
study. A fork is the trainer that such a process stands for: it has the environment, folder, streams and arguments of the
client, receives the signals that the client is sent, and leads a session of its own. The client ends as it ended. With a
client that is killed the fork is killed.
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

CLIENT = Path(__file__).with_name("fork_client.py")


class Trainers:
    """Answers clients until `close`.

    Attributes:
      address: the path of the socket.
      trial: what the interpreter runs for a trial of a study, in place of `pipeline.trials.running.TRAINER`.
      running: the clients that are answered now.
    """

    def __init__(self):
        self._folder = tempfile.mkdtemp(prefix="trainers-")  # a socket's path is short, a test's folder may not be
        self.address = str(Path(self._folder, "socket"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(self.address)
        self._socket.listen(64)
        self.trial = ("tests/trials/forked_trial.py", self.address)
        self.running: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accepts no more clients; those that are there end with the programs that started them."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self.running.add(connection)
            threading.Thread(target=self._attend, args=[connection], daemon=True).start()

    def _attend(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        finally:
            self.running.discard(connection)

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
