"""`python3 -m pod`, which launch/tpu_pod.sh starts."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

from pod import commands
from pod.errors import FAILED, INTERRUPTED, MACHINE_ERROR, UNREAD, Refused
from pod.plane.control_plane import ControlError
from pod.services.credentials import CredentialsError
from pod.services.http import ApiError
from pod.starting import arguments
from pod.starting.start import Interrupted


def main() -> int:
    """Runs the command line; an error that a user can fix is one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None if it was closed before this process began
            stream.reconfigure(errors="backslashreplace")  # for terminals without UTF-8
    try:
        status = _run()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except Refused as error:
        _say(str(error))
        return error.exit_code
    except (ApiError, ControlError, CredentialsError) as error:
        _say(str(error))
        return FAILED
    except (KeyboardInterrupt, Interrupted):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output is gone, such as `| head`, which has seen enough
        return UNREAD
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _say(f"{where}{error.strerror or error}")
        return MACHINE_ERROR


def _run() -> int:
    try:
        return commands.main(sys.argv[1:], os.environ, Path(os.environ.get("PWD") or os.getcwd()))
    except arguments.HelpAsked:
        print(arguments.USAGE, end="")
        return 0


def _say(words: str) -> None:
    with contextlib.suppress(OSError):  # the exit status still says it
        print(f"tpu_pod.sh: {words}", file=sys.stderr, flush=True)


def _forget_what_nobody_reads() -> None:
    """Keeps the interpreter from trying at exit to flush what could not be written."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


if __name__ == "__main__":
    code = main()
    _forget_what_nobody_reads()
    sys.exit(code)
