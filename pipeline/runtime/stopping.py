"""Stops all processes of a run at the same point.

The first SIGTERM or Ctrl-C is a request. JAX's preemption service passes it to every process, and `StopRequests` reports it. A
second signal ends the process at once. A closed terminal, or output that nobody reads any more, is a request too, but never a
second one, because it comes together with others. Nothing here saves anything.
"""

import concurrent.futures
import ctypes
import errno
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
_UNREADABLE = (errno.EPIPE, errno.EIO)  # a pipe without a reader, and a terminal that is gone
_PAUSE_SECONDS = 0.2
_PATIENCE = 0.8  # a share of JAX's own time-out
_peer_seconds = 100.0  # JAX's default; `listen` sets it
_to_the_thread = None  # the pipe by which signals reach it; `listen` opens it
_NUMBERS_WHILE_WAITING = 20_000  # with the pause, more than an hour


def listen(peer_seconds: float) -> None:
    """Makes the first SIGTERM or Ctrl-C a request to stop, and the second one the end of this process.

    Call it in the main thread after `jax.distributed.initialize`, which installs the handler of SIGTERM that notifies the
    preemption service. A thread obeys the signals, because the main thread may be inside a collective that never returns. The
    interpreter's C-level handler wakes that thread.

    Args:
      peer_seconds: JAX's time-out for the other processes at the end.
    """
    global _peer_seconds, _to_the_thread
    _peer_seconds = peer_seconds
    tell_jax = _take_over_handler(signal.SIGTERM)
    reading, _to_the_thread = os.pipe()
    os.set_blocking(_to_the_thread, False)
    signal.set_wakeup_fd(_to_the_thread)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as with nohup
        signal.signal(signal.SIGHUP, lambda *_: None)
    threading.Thread(target=_obey, args=(reading, tell_jax), name="signals", daemon=True).start()


def leave(exit_code: int) -> NoReturn:
    """Ends this process together with its peers, without waiting for threads that cannot be interrupted.

    A compiling thread cannot be interrupted; a normal exit would wait for it or crash. Peers get 80 % of JAX's time-out, after
    which JAX would abort us and lose the exit code.
    """
    shutdown = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    shutdown.start()
    shutdown.join(_PATIENCE * _peer_seconds)
    if shutdown.is_alive():
        logging.error(
            "leaving alone: the other processes did not come to the end within %.0f s", _PATIENCE * _peer_seconds
        )
    ending.leave_at_once(exit_code)


def say(text: str, write: Callable[[str], object]) -> None:
    """Writes a line; if nobody can read it any more, asks the run to stop.

    Ctrl-C ends `tee` at once, and the run must still save.
    """
    try:
        write(text)
    except OSError as error:
        if error.errno not in _UNREADABLE or _to_the_thread is None:
            raise
        os.write(_to_the_thread, bytes([signal.SIGHUP]))


class StopRequests:
    """Reports whether the run was asked to stop. Every process gets the same answer to the same question.

    Questions are numbered. JAX says yes to exactly one number: the one after the highest that any process had asked when the
    request came. So all processes must ask all numbers in order.
    """

    def __init__(self):
        self._number = 0

    def asked(self) -> bool:
        """Asks the next question. Call it at points that all processes pass equally often."""
        self._number += 1
        return multihost_utils.reached_preemption_sync_point(self._number)

    def unless_asked(self, work: Callable[[], Result]) -> Result:
        """Returns the result of work that computes nothing worth saving, such as a compilation.

        Raises:
          Preempted: the run was asked to stop before the work was done. Its thread is abandoned: see `leave`.
        """
        result = concurrent.futures.Future()
        threading.Thread(target=_fulfil, args=(result, work), daemon=True).start()
        done = threading.Event()
        result.add_done_callback(lambda _: done.set())
        if self._asked_before(done):
            raise Preempted("asked to stop, and there was nothing new to save; the same command continues")
        return result.result()

    def _asked_before(self, done: threading.Event) -> bool:
        """Waits for `done` and returns False; returns True as soon as the run is asked to stop.

        Processes wait for different times, but all of them ask equally many questions.
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
    told, requests = False, 0
    while True:
        number = os.read(reading, 1)[0]
        if number not in (*_SIGNALS, signal.SIGHUP):
            continue
        requests += number in _SIGNALS
        if requests > 1:
            os._exit(128 + number)
        if not told:
            told = True
            logging.info("%s: saving what is new, then stopping. Again: at once.", signal.Signals(number).name)
            tell_jax(signal.SIGTERM)


def _take_over_handler(number: int) -> Callable[[int], None]:
    """Removes a signal handler that was not installed by Python, and returns it as a function."""
    c_signal = ctypes.CDLL(None).signal
    c_signal.argtypes, c_signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    handler = c_signal(number, int(signal.SIG_DFL))
    if not handler:
        raise RuntimeError(f"nobody handles {signal.Signals(number).name}: is JAX's preemption service switched off?")
    return ctypes.CFUNCTYPE(None, ctypes.c_int)(handler)
