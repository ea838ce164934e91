"""The kinds of errors that users and machines cause, with their exit codes.

Commands print these errors as one line and exit with `exit_code`. The launcher decides by the code whether a restart can
help. `expected` converts errors of the system and the libraries into them. Any other exception is a fault in this project and
keeps its traceback (`host/ending.py`). The codes are those of BSD's sysexits.h.
"""

import errno
import os


class ConfigError(ValueError):
    """The configuration or the command line cannot work; a restart does not help."""

    exit_code = 78  # EX_CONFIG


class DataError(ValueError):
    """A dataset, image, checkpoint or weight file is missing or damaged."""

    exit_code = 65  # EX_DATAERR


class TrainingError(RuntimeError):
    """The run must not continue, for example because its loss is no longer finite."""

    exit_code = 70  # EX_SOFTWARE


class MachineError(RuntimeError):
    """The machine failed, for example for lack of memory; a restart can help."""

    exit_code = 71  # EX_OSERR


class Preempted(Exception):
    """The run was asked to stop and has saved its progress; the same command continues it."""

    exit_code = 75  # EX_TEMPFAIL


Expected = ConfigError | DataError | MachineError | Preempted | TrainingError
_ADVICE = {  # what to do about an error of the system
    errno.ENOSPC: ("no room to write", "Make room, then give the same command again"),
    errno.EMFILE: ("too many open files", "Allow more (ulimit -n, or LimitNOFILE= of a service), then start again"),
    errno.ENOMEM: ("no memory left", "Free some, or take smaller batches or fewer workers"),
}
_SAME_ADVICE = {errno.EDQUOT: errno.ENOSPC, errno.EFBIG: errno.ENOSPC, errno.ENFILE: errno.EMFILE}
# Libraries raise their own errors with the system's words in them. These words are unambiguous.
_IN_WORDS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    *(errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOTDIR, errno.ENOTCONN),
)
_BY_CLASS = {
    FileNotFoundError: errno.ENOENT,
    FileExistsError: errno.EEXIST,
    NotADirectoryError: errno.ENOTDIR,
    IsADirectoryError: errno.EISDIR,
    PermissionError: errno.EACCES,
}


def expected(error: BaseException) -> Expected | None:
    """Returns an error as one of `Expected`, with a readable message; None if it is a fault in this project."""
    if isinstance(error, Expected):
        return error
    reason = " ".join(str(error).split())
    if isinstance(error, MemoryError) or ("RESOURCE_EXHAUSTED" in reason and "memory" in reason):
        return _refused(errno.ENOMEM, reason[:400] or "the machine gave none")
    if isinstance(error, OSError):
        number = error.errno if error.errno is not None else _number_of(error)
        if number is not None:
            return _refused(number, reason)
    number = next((number for number in _IN_WORDS if os.strerror(number) in reason), None)
    return None if number is None else _refused(number, reason)


def _number_of(error: OSError) -> int | None:
    """Returns the number that an error's class stands for; libraries raise these classes with words alone."""
    return next((number for kind, number in _BY_CLASS.items() if isinstance(error, kind)), None)


def _refused(number: int, reason: str) -> MachineError:
    words = ("the system refused", "Mend that, then give the same command again")
    what, advice = _ADVICE.get(_SAME_ADVICE.get(number, number), words)
    return MachineError(f"{what}: {reason}. {advice}")
