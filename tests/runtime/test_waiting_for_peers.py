"""A process whose peers do not come: whom it names, what it obeys, and how it ends."""

import os
import signal
import socket
import threading

import pytest

from pipeline.errors import ConfigError, MachineError
from pipeline.runtime import joining
from tests.forks import Fork
from tests.runs import free_port, wait_for

JOIN = """
import sys
from pipeline import command
from pipeline.runtime import distributed, joining, stopping

address, count, index, limit = sys.argv[1], *map(int, sys.argv[2:])
distributed.INITIALIZATION_TIMEOUT_SECONDS = limit
joining.REMINDER_SECONDS = 1.0
command.run(lambda: distributed.initialize(address, count, index), ["program"], leave=stopping.leave)
"""


def start(address: str, count: int, index: int, limit: int = 1800) -> Fork:
    return Fork(["-c", JOIN, address, str(count), str(index), str(limit)], dict(os.environ))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "index", "number", "at_once", "again"),
    [
        (
            2,
            0,
            signal.SIGINT,
            "waiting up to 1800 seconds for process 1",
            "process 0 of 2 awaits process 1 at localhost:",
        ),
        (4, 0, signal.SIGTERM, "waiting up to 1800 seconds for processes 1 to 3", "awaits 3 of processes 1 to 3"),
        (
            2,
            1,
            signal.SIGINT,
            "waiting up to 1800 seconds for process 0 at localhost:",
            "does not answer: Connection refused",
        ),
    ],
)
def test_who_is_missing_is_said_at_once_and_again_and_signals_are_obeyed(count, index, number, at_once, again):
    process = start(f"localhost:{free_port()}", count, index)
    wait_for(process, at_once)
    wait_for(process, again)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert f"Stopped: {number.name} while waiting for the other processes" in output
    assert "Traceback" not in output


def test_those_that_have_come_are_not_awaited():
    address = f"localhost:{free_port()}"
    first, third = start(address, 3, 0), start(address, 3, 2)
    try:
        assert "here are those from 127.0.0.1" in wait_for(first, "awaits 1 of processes 1 to 2").splitlines()[-1]
        wait_for(third, f"has reached process 0 at {address}")
        second = start(address, 3, 1)
        outputs = [process.communicate(timeout=120)[0] for process in (first, second, third)]
        assert [process.returncode for process in (first, second, third)] == [0, 0, 0], outputs
    finally:
        for process in (first, third):
            process.kill()


@pytest.mark.parametrize("place", ["", "'localhost:{port}', 1, 0"])
def test_no_proxy_is_asked_for_a_process_of_the_run(place):
    """A proxy that never answers, such as one that knows nothing of this machine's ports."""
    program = f"from pipeline.runtime import distributed; distributed.initialize({place.format(port=free_port())}); "
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        variables = {**os.environ, "http_proxy": address, "https_proxy": address, "no_proxy": "example.com"}
        process = Fork(["-c", program + "import os; print(os.environ['no_grpc_proxy'], flush=True)"], variables)

        def refuse():
            proxy.accept()
            process.kill()

        threading.Thread(target=refuse, daemon=True).start()
        assert wait_for(process, "localhost").splitlines()[-1] == "example.com,localhost"
        process.kill()
        socket.create_connection(proxy.getsockname()).close()  # ends the thread


@pytest.mark.slow
def test_the_wait_ends_in_words():
    process = start(f"localhost:{free_port()}", 2, 0, limit=3)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 71, output
    assert "Error: gave up after 3 seconds: process 0 of 2 awaits process 1 at localhost:" in output


def test_a_request_in_the_last_moment_is_not_lost(monkeypatch):
    monkeypatch.setattr(joining, "_PAUSE_SECONDS", 600.0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert joining.join(lambda: os.kill(os.getpid(), signal.SIGTERM), 1800)
        assert not joining.join(lambda: None, 1800)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("address", "count", "index", "message"),
    [
        ("localhost", 2, 0, "--coordinator_address=localhost: expected host:port"),
        ("localhost:port", 2, 0, "--coordinator_address=localhost:port"),
        ("localhost:70000", 2, 0, "--coordinator_address=localhost:70000"),
        ("http://localhost:80", 2, 0, "--coordinator_address=http"),
        ("localhost:80", 0, 0, "--process_count=0: expected 1 or more"),
        ("localhost:80", 2, 2, "--process_index=2: expected 0 to 1, because --process_count=2"),
        ("localhost:80", 2, -1, "--process_index=-1"),
    ],
)
def test_what_cannot_be_is_refused(address, count, index, message):
    with pytest.raises(ConfigError, match=message):
        joining.check_arguments(address, count, index)


@pytest.mark.parametrize("address", ["localhost:80", "10.0.0.2:8476", "[fd00::2]:8476", "host-1.example:1"])
def test_what_can_be_is_not(address):
    joining.check_arguments(address, 4, 3)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(MachineError, match=f"{address}: process 0 cannot listen there: Address already in use"):
            joining.check_port_is_free(address)
    joining.check_port_is_free(address)


def test_addresses_of_the_kernel_s_tables_are_read():
    # /proc/net/tcp as proc(5) has it: words of four bytes, each in the order of a little-endian machine.
    assert joining._as_text("0100007F") == "127.0.0.1"
    assert joining._as_text("0000000000000000FFFF00000200000A") == "10.0.0.2"
    assert joining._as_text("000000FD000000000000000002000000") == "fd00::2"
