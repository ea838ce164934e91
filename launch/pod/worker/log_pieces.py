"""Sends a trainer's log to the bucket in pieces that are written once and never changed.

A file beside the log records what has been sent, so a restarted agent continues there. Each round sends at most four pieces
of at most 256 KiB, which end with a line. If a log grows faster, or grew while the bucket was unreachable, its middle is left
out, and a line says so. The last round sends the rest, because the machine may be gone before another.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from pod.clock import Clock
from pod.job import failures
from pod.plane.control import Control
from pod.plane.control_plane import ControlPlane
from pod.worker.trainer import Attempt

PIECE_BYTES = 256 * 1024
PIECES_AT_ONCE = 4
BACKLOG_BYTES = 4 * 1024 * 1024
TAIL_BYTES = 64 * 1024


class LogPieces:
    """Sends one log.

    Args:
      log: the file.
      write: takes the number and the content of a piece.
      behind: how many bytes before the current end to start from; None: from the beginning.
    """

    def __init__(self, log: Path, write: Callable[[int, bytes], None], behind: int | None = None):
        self._log, self._write, self._behind = log, write, behind
        self._record = log.with_name("sent.json")
        try:
            self.pieces, self._offset = json.loads(self._record.read_text())
        except (OSError, ValueError, TypeError):
            self.pieces, self._offset = 0, 0

    def send(self, *, last: bool = False) -> bool:
        """Sends what is new; returns whether everything was sent.

        Args:
          last: whether the log is complete, so that an unfinished line is sent too.

        Raises:
          ApiError: the bucket cannot be written; the rest is sent the next time.
        """
        if self._behind is not None and self.pieces == 0:
            self._offset = max(self._size() - self._behind, 0)
        for _ in range(PIECES_AT_ONCE):
            size = self._size()
            note = b""
            backlog = PIECES_AT_ONCE * PIECE_BYTES if last else BACKLOG_BYTES
            if size - self._offset > backlog:
                start = size - backlog // 2
                note = f"[{start - self._offset:,} bytes are left out here; the machine has them in {self._log}]\n".encode()
                self._skip_to(start)
            content = self._read(PIECE_BYTES)
            end = content.rfind(b"\n") + 1
            if 0 < end < len(content) and (len(content) == PIECE_BYTES or not last):
                content = content[:end]
            elif end == 0 and len(content) < PIECE_BYTES and not last:
                return True  # wait for the end of the line
            if not content:
                return True
            self._write(self.pieces, note + content)
            self.pieces += 1
            self._skip_to(self._offset + len(content))
        return self._offset >= self._size()

    def _skip_to(self, offset: int) -> None:
        self._offset = offset
        partial = self._record.with_suffix(".partial")
        with contextlib.suppress(OSError):  # on a full disk an agent that starts anew sends these pieces once more
            partial.write_text(json.dumps([self.pieces, offset]))
            partial.replace(self._record)

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _read(self, limit: int) -> bytes:
        try:
            with self._log.open("rb") as file:
                file.seek(self._offset)
                return file.read(limit)
        except OSError:
            return b""


class TrainerLog:
    """The logs of the attempts on one machine; the newest one matters."""

    def __init__(self, plane: ControlPlane, incarnation: str, worker: int, clock: Clock):
        self._plane, self._incarnation, self._worker, self._clock = plane, incarnation, worker, clock
        self._pieces: dict[int, LogPieces] = {}
        self._progress: Progress | None = None

    def pieces(self, attempt: Attempt) -> LogPieces:
        """Returns the sender of an attempt's log."""
        if attempt.number not in self._pieces:

            def write(piece: int, content: bytes) -> None:
                self._plane.write_log(self._incarnation, attempt.number, self._worker, piece, content)

            self._pieces = {attempt.number: LogPieces(attempt.log, write, TAIL_BYTES if self._worker else None)}
        return self._pieces[attempt.number]

    def send(self, attempt: Attempt, wanted: Control) -> None:
        """Sends worker 0's log as it grows; another worker's only after a failure, or while it is requested."""
        ended = attempt.ended()
        if self._worker == 0 or self._worker in wanted.logs or (ended is not None and ended.exit_code != 0):
            self.pieces(attempt).send(last=ended is not None)

    def progress(self, attempt: Attempt) -> int:
        """Returns the highest step in an attempt's log."""
        if self._progress is None or self._progress.log != attempt.log:
            self._progress = Progress(attempt.log)
        return self._progress.read()

    def silence(self, running: Attempt) -> float:
        """Returns the seconds since a running attempt wrote to its log."""
        try:
            return max(self._clock.now() - running.log.stat().st_mtime, 0.0)
        except OSError:
            return 0.0


class Progress:
    """The highest step in a growing log."""

    def __init__(self, log: Path):
        self.log, self._offset, self._rest, self.step = log, 0, b"", 0

    def read(self) -> int:
        """Reads what is new and returns the highest step so far."""
        try:
            with self.log.open("rb") as file:
                file.seek(self._offset)
                while content := file.read(PIECE_BYTES):
                    self._offset += len(content)
                    lines, _, self._rest = (self._rest + content).rpartition(b"\n")
                    self.step = max(self.step, failures.last_step(lines.decode(errors="replace")))
                    self._rest = self._rest[-PIECE_BYTES:]
        except OSError:
            pass
        return self.step


def tail(log: Path, limit: int = TAIL_BYTES) -> str:
    """Returns the end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - limit, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
