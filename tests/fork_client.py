"""Stands for a process of Python that `trainers.py` forks, and ends as that one ends.

Run as fork_client.py SOCKET -m MODULE …; needs the standard library only, and little of it, so that it starts in a moment.
"""

import contextlib
import json
import os
import signal
import socket
import sys

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)

signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is one to pass them on to
address, *arguments = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(address)
for number in PASSED_ON:
    signal.signal(number, lambda number, _: connection.send(b"%d" % number))
request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
end = connection.recv(16)
code = int(end) if end else -signal.SIGKILL  # the tests are over
if code < 0:
    with contextlib.suppress(OSError):  # some signals have no other way
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
