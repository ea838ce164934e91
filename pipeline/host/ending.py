"""Ends the processes of this project: with one line about an error, an exit code, and without hanging.

Every command turns exceptions into exit codes here. An error that a user, a disk or a machine can cause is one line; a fault
of this project keeps its traceback. The interpreter's own exit waits for the threads of libraries, for minutes or forever. A
failed job must not stay alive, so the process does not rely on it.
"""

import contextlib
import io
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from absl import logging

from pipeline.errors import Expected, Preempted, expected

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXIT_CODE_OF_A_FAULT = 1  # Python's own for a traceback
_INTERRUPTED = 128 + signal.SIGINT  # as shells have it
_UNREAD = 128 + signal.SIGPIPE
_PATIENCE_SECONDS = 10.0


def outcome(work: Callable[[], None]) -> int:
    """Runs the work, prints its error to stderr, and returns the exit code; 0 on success."""
    _tolerate_names()
    threading.excepthook = _report_error_of_thread
    try:
        work()
        _flush(sys.stdout)
        return 0
    except SystemExit as end:
        return _code_of(end)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends the process at once
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
    """Exits like the interpreter, but without threads that do not end in time."""
    last_resort = threading.Timer(_PATIENCE_SECONDS, leave_at_once, (exit_code,))
    last_resort.daemon = True
    last_resort.start()
    _forget_what_nobody_reads()
    sys.exit(exit_code)


def leave_at_once(exit_code: int) -> NoReturn:
    """Flushes the output and exits without waiting for threads or cleaning up."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            _flush(stream)
    os._exit(exit_code)


def _report_error_of_thread(args: threading.ExceptHookArgs) -> None:
    """Prints the error of a library's thread as one line; whoever waits for the thread raises it too."""
    known = args.exc_value and expected(args.exc_value)
    if known is None:
        threading.__excepthook__(args)
    else:
        _log(f"In the background: {known}")


def abandon(error: Expected) -> NoReturn:
    """Ends this process from any thread with an error of `pipeline/errors.py`."""
    _log(f"Error: {error}")
    leave_at_once(error.exit_code)


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    _log(f"{end.code}")
    return EXIT_CODE_OF_A_FAULT


def _log(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the exit code still says it
        print(line, file=sys.stderr, flush=True)


def _silence_libraries() -> None:
    """Silences the libraries' threads, whose failures would follow the error."""
    logging.get_absl_handler().addFilter(lambda record: record.pathname.startswith(_PACKAGE))


def _tolerate_names() -> None:
    """Makes undecodable file names printable, with their bytes escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed before this process began
            stream.reconfigure(errors="backslashreplace")


def _flush(stream) -> None:
    if stream is not None:  # None if it was closed before this process began
        stream.flush()


def _nobody_reads_output() -> bool:
    """Returns whether stdout or stderr is a pipe without a reader."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _forget_what_nobody_reads() -> None:
    """Keeps the interpreter from trying at exit to flush what could not be written."""
    try:
        _flush(sys.stdout)
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
