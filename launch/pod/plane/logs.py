"""Reads the workers' logs from the bucket, piece by piece."""

from __future__ import annotations

from typing import TextIO

from pod.plane.control_plane import ControlPlane

_AT_ONCE = 3  # pieces from before the start of this supervisor


class LogFollower:
    """Prints one worker's log as it grows, each piece once."""

    def __init__(self, plane: ControlPlane, out: TextIO):
        self._plane, self._out = plane, out
        self._following: tuple[str, int, int] = ("", 0, 0)
        self._next = 0

    def follow(self, incarnation: str, attempt: int, worker: int) -> None:
        """Prints what is new.

        Args:
          incarnation: the slice.
          attempt: the attempt of the job.
          worker: the worker.

        Raises:
          BrokenPipeError: the output is a pipe that nobody reads any more.
        """
        if self._following != (incarnation, attempt, worker):
            self._following = (incarnation, attempt, worker)
            report = self._plane.workers(incarnation).get(worker)
            pieces = report.log_pieces if report is not None and report.attempt == attempt else 0
            self._next = max(pieces - _AT_ONCE, 0)
        while True:
            piece = self._plane.read_log(incarnation, attempt, worker, self._next)
            if piece is None:
                return
            self._next += 1
            try:
                self._out.write(piece.decode("utf-8", "replace"))
                self._out.flush()
            except BrokenPipeError:
                raise
            except OSError:  # a full disk, or a terminal that is gone: the run goes on
                continue


def tail(plane: ControlPlane, incarnation: str, attempt: int, worker: int, pieces: int, lines: int) -> str:
    """Returns the last lines of a worker's log.

    Args:
      plane: the control plane of the run.
      incarnation: the slice.
      attempt: the attempt of the job.
      worker: the worker.
      pieces: the number of pieces that the worker reports.
      lines: the largest number of lines.
    """
    found: list[str] = []
    text = b""
    for piece in range(pieces - 1, -1, -1):
        text = (plane.read_log(incarnation, attempt, worker, piece) or b"") + text
        found = text.decode("utf-8", "replace").splitlines()
        if len(found) > lines:
            break
    return "\n".join(found[-lines:])
