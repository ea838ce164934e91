"""How a process of this project ends: what went wrong said in one line, an exit code, and an end that comes.

Owns the way from any exception to the code, for every command: an error that a user, a disk or a machine can cause is one line;
only a fault of this project keeps its traceback, and ends the process in the same way. Never leaves the end to the interpreter
alone, which waits for threads that libraries started, for minutes or for ever: a job that has failed must not stay alive.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from absl import logging

from pipeline.errors import Preempted, expected

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXIT_CODE_OF_A_FAULT = 1  # Python's own for a traceback
_INTERRUPTED = 128 + signal.SIGINT  # as shells have it
_UNREAD = 128 + signal.SIGPIPE
_PATIENCE_SECONDS = 10.0


def outcome(work: Callable[[], None]) -> int:
    """Does the work, says on stderr what went wrong, and returns the code to end with: 0 if nothing did."""
    _tolerate_names()
    threading.excepthook = _say_of_thread
    try:
        work()
        _flush(sys.stdout)
        return 0
    except SystemExit as end:
        return _code_of(end)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one does not have to wait for anything
        _log("Stopped: by Ctrl-C")
        return _INTERRUPTED
    except BaseException as error:  # a cancelled task is not an `Exception`
        if isinstance(error, BrokenPipeError) and _nobody_reads_output():
            return _UNREAD  # such as `| head`, which has seen enough
        known = expected(error)
        _silence_libraries()
        if known is None:
            with contextlib.suppress(OSError):
                traceback.print_exception(error)
            return EXIT_CODE_OF_A_FAULT
        logging.debug("%s", "".join(traceback.format_exception(error)))  # shown with --verbosity=1
        _log(f"{'Stopped' if isinstance(known, Preempted) else 'Error'}: {known}")
        return known.exit_code


def leave(exit_code: int) -> NoReturn:
    """Ends this process as the interpreter does; if its threads do not let it, without them."""
    last_resort = threading.Timer(_PATIENCE_SECONDS, leave_at_once, (exit_code,))
    last_resort.daemon = True
    last_resort.start()
    _forget_what_nobody_reads()
    sys.exit(exit_code)


def leave_at_once(exit_code: int) -> NoReturn:
    """Ends this process with nothing but its output: no thread is waited for, nothing is cleaned up."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            _flush(stream)
    os._exit(exit_code)


def _say_of_thread(args: threading.ExceptHookArgs) -> None:
    """Keeps to one line what a library's thread met; whoever waits for the thread will meet it too."""
    known = args.exc_value and expected(args.exc_value)
    if known is None:
        threading.__excepthook__(args)
    else:
        _log(f"In the background: {known}")


def abandon(error: Exception) -> NoReturn:
    """Ends this process from any thread, with an error of `pipeline/errors.py`, while its main thread does something else."""
    _log(f"Error: {error}")
    leave_at_once(error.exit_code)


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    _log(str(end.code))
    return EXIT_CODE_OF_A_FAULT


def _log(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the exit code still says it
        print(line, file=sys.stderr, flush=True)


def _silence_libraries() -> None:
    """Leaves the last word to the error: the libraries' threads, which nobody waits for now, fail one after another."""
    logging.get_absl_handler().addFilter(lambda record: record.pathname.startswith(_PACKAGE))


def _tolerate_names() -> None:
    """Has file names that are no text printed all the same, with the odd bytes escaped."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # there is none, or it is not a file
            stream.reconfigure(errors="backslashreplace")


def _flush(stream) -> None:
    if stream is not None:  # it was closed before this process began
        stream.flush()


def _nobody_reads_output() -> bool:
    """Says whether stdout or stderr is a pipe whose reader is gone."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _forget_what_nobody_reads() -> None:
    """Keeps the interpreter from writing once more, at its exit, what could not be written."""
    try:
        _flush(sys.stdout)
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
