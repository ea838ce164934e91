"""Forks gcloud from a process that has imported much of it, since each gcloud imports for longer than it does anything else.

Run by gcloud's own Python: forks.py FOLDER-OF-GCLOUD DESCRIPTOR, of a listening socket. A client, `tests/fork_client.py`,
stands for gcloud's interpreter: it sends its arguments, environment, folder and streams. The fork runs the program named
there, gcloud's own, with them. It receives the signals that the client is sent, and the client ends as it ended. With a
client that is killed the fork is killed. All ends when stdin ends. Needs nothing of ours.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys

LONGEST_REQUEST = 1 << 20
# What the commands import that the tests run. None of them reads a setting while it is imported.
PRELOADED = (
    "googlecloudsdk.gcloud_main",
    "googlecloudsdk.api_lib.compute.base_classes",
    "googlecloudsdk.api_lib.storage.gcs_json.client",
    "googlecloudsdk.command_lib.compute.tpus.tpu_vm.ssh",
    "googlecloudsdk.command_lib.storage.tasks.task_graph_executor",
    "googlecloudsdk.generated_clients.apis.tpu.v2.tpu_v2_messages",
    "googlecloudsdk.generated_clients.apis.compute.v1.compute_v1_messages",
    "googlecloudsdk.generated_clients.apis.storage.v1.storage_v1_messages",
)


class Clients:
    """The connections that wait for a fork to end, and their forks."""

    def __init__(self, selector):
        self._selector = selector
        self._processes = {}  # by connection

    def accept(self, listener):
        """Waits for what another client asks."""
        self._selector.register(listener.accept()[0], selectors.EVENT_READ)

    def attend(self, client):
        """Reads from a client: a request, a signal to pass on, or its end. Returns the request in the fork, else None."""
        if client not in self._processes:
            return self._begin(client)
        number = client.recv(16)
        os.kill(self._processes[client], int(number or signal.SIGKILL))
        if not number:
            self._selector.unregister(client)
        return None

    def _begin(self, client):
        message, descriptors, *_ = socket.recv_fds(client, LONGEST_REQUEST, 3)
        if not message:  # killed before it asked
            self._selector.unregister(client)
            client.close()
            return None
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            for connection in (client, *self._processes):
                connection.close()
            return json.loads(message)
        for descriptor in descriptors:
            os.close(descriptor)
        self._processes[client] = process
        return None

    def tell_of_ends(self):
        """Tells each client whose fork has ended how it did."""
        for client, process in list(self._processes.items()):
            number, status = os.waitpid(process, os.WNOHANG)
            if number == process:
                del self._processes[client]
                if client in self._selector.get_map():
                    self._selector.unregister(client)
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # just killed
                        client.send(b"%d" % os.waitstatus_to_exitcode(status))
                client.close()


def serve(listener):
    """Answers clients until stdin ends; returns None then, and in each fork its request."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    with selectors.DefaultSelector() as selector:
        clients = Clients(selector)
        for source in (0, listener, reading):
            selector.register(source, selectors.EVENT_READ)
        while True:
            # Ends come last, because a client that was told has no more to say.
            for key, _ in sorted(selector.select(), key=lambda event: event[0].fileobj == reading):
                if key.fileobj == 0:
                    return None
                if key.fileobj is listener:
                    clients.accept(listener)
                elif key.fileobj == reading:
                    os.read(reading, 64)
                    clients.tell_of_ends()
                else:
                    request = clients.attend(key.fileobj)
                    if request is not None:
                        return request


def become(request):
    """Runs the request's program in this process, as gcloud's interpreter would."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [word for word in request["arguments"] if word != "-S"]
    runpy.run_path(sys.argv[0], run_name="__main__")


def main():
    root, descriptor = sys.argv[1:]
    sys.path[:0] = [f"{root}/lib/third_party", f"{root}/lib"]
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that a collection does not copy what all share
    with socket.socket(fileno=int(descriptor)) as listener:
        request = serve(listener)
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
