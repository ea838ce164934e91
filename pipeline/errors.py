"""What can go wrong through the user's input or the machines, each kind with its exit code.

Commands print these errors as one line and exit with `exit_code`; the launcher decides by the code whether a restart can
help. Any other exception is a fault in this project and keeps its traceback. The codes are those of BSD's sysexits.h.
"""


class ConfigError(ValueError):
    """A configuration or command line that cannot work; starting again changes nothing."""

    exit_code = 78  # EX_CONFIG


class DataError(ValueError):
    """A dataset, picture, checkpoint or weight file that is missing or damaged."""

    exit_code = 65  # EX_DATAERR


class TrainingError(RuntimeError):
    """A run that must not go on, such as one whose loss is no longer finite."""

    exit_code = 70  # EX_SOFTWARE


class MachineError(RuntimeError):
    """The machine failed the run, such as by too little memory; a restart can help."""

    exit_code = 71  # EX_OSERR


class Preempted(Exception):
    """The run was asked to stop and has saved what was new; the same command continues it."""

    exit_code = 75  # EX_TEMPFAIL
