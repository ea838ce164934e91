"""How a run learns that it is to stop, and how all of its processes stop at the same point.

The first SIGTERM or Ctrl-C is a request: JAX's preemption service takes it to every process, and `StopRequests` answers from
it. A second one ends the process at once. Nothing here saves anything.
"""

import concurrent.futures
import ctypes
import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

import jax
from absl import logging
from jax.experimental import multihost_utils

from pipeline.errors import Preempted
from pipeline.host import ending

Result = TypeVar("Result")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PAUSE_SECONDS = 0.2
_PATIENCE = 0.8  # as a part of the time that JAX waits
_peer_seconds = 100.0  # JAX's own, until `listen` is told another
_NUMBERS_WHILE_WAITING = 20_000  # with the pause more than an hour


def listen(peer_seconds: float) -> None:
    """Makes the first SIGTERM or Ctrl-C a request to stop, and the second the end of this process.

    To be called in the main thread after `jax.distributed.initialize`, which puts a handler of SIGTERM in place that tells the
    preemption service. A thread obeys the signals, because the main thread may be inside a collective that never returns; the
    interpreter's own handler wakes it.

    Args:
      peer_seconds: how long JAX was told to wait for the other processes at the end.
    """
    global _peer_seconds
    _peer_seconds = peer_seconds
    tell_jax = _take_over_handler(signal.SIGTERM)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    threading.Thread(target=_obey, args=(reading, tell_jax), name="signals", daemon=True).start()


def leave(exit_code: int) -> NoReturn:
    """Ends this process in peace with the others, but without waiting for threads that nothing can interrupt.

    Such as one that compiles: the interpreter would wait for it, or end under its feet. Others that do not leave, because the
    error is this process's alone, are waited for almost as long as JAX does, which would then end this process by SIGABRT and
    not with the error's code.
    """
    shutdown = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    shutdown.start()
    shutdown.join(_PATIENCE * _peer_seconds)
    if shutdown.is_alive():
        logging.error(
            "leaving alone: the other processes did not come to the end within %.0f s", _PATIENCE * _peer_seconds
        )
    ending.leave_at_once(exit_code)


class StopRequests:
    """Says whether the run was asked to stop; every process gets the same answer at the same question.

    JAX says yes to exactly one number: the one after the highest that any process had asked about when the request came. So
    all processes must ask about all numbers, in order.
    """

    def __init__(self):
        self._number = 0

    def asked(self) -> bool:
        """Asks about the next number; to be called at points that all processes pass equally often."""
        self._number += 1
        return multihost_utils.reached_preemption_sync_point(self._number)

    def unless_asked(self, work: Callable[[], Result]) -> Result:
        """Returns the result of work that computes nothing worth saving, such as a compilation.

        Raises:
          Preempted: the run was asked to stop before it was done. The thread that does it is left to itself: see `leave`.
        """
        result = concurrent.futures.Future()
        threading.Thread(target=_fulfil, args=(result, work), daemon=True).start()
        done = threading.Event()
        result.add_done_callback(lambda _: done.set())
        if self._asked_before(done):
            raise Preempted("asked to stop, and there was nothing new to save; the same command continues")
        return result.result()

    def _asked_before(self, done: threading.Event) -> bool:
        """Waits for `done` and returns False; returns True, at once, when the run is asked to stop before.

        Each process waits as long as its own `done` takes. Whatever that is, all ask about equally many numbers.
        """
        last = self._number + _NUMBERS_WHILE_WAITING
        while not done.wait(_PAUSE_SECONDS):
            if self._number < last and self.asked():
                return True
        return any(self.asked() for _ in range(last - self._number))


def _fulfil(result: concurrent.futures.Future, work: Callable[[], Result]) -> None:
    try:
        result.set_result(work())
    except BaseException as error:
        result.set_exception(error)


def _obey(reading: int, tell_jax: Callable[[int], None]) -> None:
    requests = 0
    while True:
        number = os.read(reading, 1)[0]
        if number not in _SIGNALS:
            continue
        requests += 1
        if requests == 1:
            logging.info("%s: saving what is new, then stopping. Again: at once.", signal.Signals(number).name)
            tell_jax(signal.SIGTERM)
        else:
            os._exit(128 + number)


def _take_over_handler(number: int) -> Callable[[int], None]:
    """Removes the handler of a signal that was not set through Python, and returns it as a function."""
    c_signal = ctypes.CDLL(None).signal
    c_signal.argtypes, c_signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    handler = c_signal(number, int(signal.SIG_DFL))
    if not handler:
        raise RuntimeError(f"nobody handles {signal.Signals(number).name}: is JAX's preemption service switched off?")
    return ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
