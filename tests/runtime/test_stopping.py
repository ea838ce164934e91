"""Requests to stop: every process asks about the same numbers, and a second signal ends a process at once."""

import os
import signal
import threading

import pytest
from jax.experimental import multihost_utils

from pipeline.errors import Preempted
from pipeline.runtime.stopping import StopRequests
from tests.forks import Fork
from tests.runs import wait_for

BUSY = """
import hashlib
from absl import logging
from pipeline.runtime import distributed
logging.set_verbosity(logging.INFO)
distributed.initialize()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # for hours, without the interpreter
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_does_not_listen(number):
    process = Fork(["-c", BUSY], dict(os.environ))
    wait_for(process, "ready")
    process.send_signal(number)
    wait_for(process, f"{number.name}: saving what is new")
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number


@pytest.fixture
def questions(monkeypatch):
    """The numbers that were asked about, and a dictionary to say what happens at a number; "stop" is the one to say yes to."""
    asked, at = [], {}

    def answer(number):
        asked.append(number)
        if number in at:
            at[number]()
        return number == at.get("stop")

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", answer)
    return asked, at


def test_all_processes_ask_about_the_same_numbers_however_long_their_work_takes(questions):
    asked, at = questions
    done = threading.Event()
    at[3] = done.set
    slow = StopRequests()
    assert slow.unless_asked(lambda: done.wait() and "compiled") == "compiled"
    slow.asked()
    numbers_of_slow = list(asked)
    asked.clear()
    at.clear()
    fast = StopRequests()
    assert fast.unless_asked(lambda: "compiled") == "compiled"
    fast.asked()
    assert asked == numbers_of_slow == list(range(1, len(asked) + 1))


def test_a_request_ends_the_waiting_before_the_work_does(questions):
    asked, at = questions
    at["stop"] = 2
    never = threading.Event()
    with pytest.raises(Preempted, match="nothing new to save"):
        StopRequests().unless_asked(never.wait)
    assert asked == [1, 2]
    never.set()


def test_a_request_is_answered_also_by_a_process_whose_work_was_done(questions):
    asked, at = questions
    at["stop"] = 2
    with pytest.raises(Preempted):
        StopRequests().unless_asked(lambda: "compiled")
    assert asked == [1, 2]


def test_what_the_work_raises_is_raised(questions):
    with pytest.raises(ZeroDivisionError):
        StopRequests().unless_asked(lambda: 1 / 0)
