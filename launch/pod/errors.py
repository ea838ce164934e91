"""The errors that end the launcher: one line for the user, and the exit status.

The launcher passes on the trainer's statuses, which are those of `pipeline/errors.py`.
"""

from __future__ import annotations

FINISHED, FAILED = 0, 1
DATA_ERROR, TRAINING_ERROR, MACHINE_ERROR, PREEMPTED, CONFIG_ERROR = 65, 70, 71, 75, 78
INTERRUPTED, UNREAD = 130, 141


class Refused(Exception):
    """Something cannot be done. The message is one line: what, where, and what to do about it.

    Attributes:
      exit_code: the launcher's exit status.
    """

    def __init__(self, message: str, exit_code: int = FAILED):
        super().__init__(message)
        self.exit_code = exit_code
