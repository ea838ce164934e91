"""What ends the launcher: one line for the user and the exit status.

Owns the statuses. The trainer's own are those of `pipeline/errors.py`, and the launcher passes them on.
"""

from __future__ import annotations

FINISHED, FAILED = 0, 1
DATA_ERROR, TRAINING_ERROR, MACHINE_ERROR, PREEMPTED, CONFIG_ERROR = 65, 70, 71, 75, 78
INTERRUPTED = 130


class Refused(Exception):
    """What cannot be done, said in one line: what, where, and what to do about it.

    Attributes:
      exit_code: the status that the launcher ends with.
    """

    def __init__(self, message: str, exit_code: int = FAILED):
        super().__init__(message)
        self.exit_code = exit_code
