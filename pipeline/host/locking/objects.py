"""A lock in a bucket: an object that its holder writes anew every few seconds, so that one who is gone is noticed.

An empty object is a lock that nobody holds. Every write names the generation that it replaces, so of two who want the lock the
store lets one have it. Whether a holder is alive is told by its writing alone, on the clock of the one who waits: clocks of
machines are never compared. A holder that loses its lock ends itself. Limit: between the take-over and its next write, one who
was cut off from the bucket does not know.
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from absl import logging

from pipeline.errors import ConfigError, MachineError
from pipeline.host import ending
from pipeline.host.locking.files import refusal
from pipeline.host.locking.owner import Owner

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 60.0  # without a heartbeat a holder counts as gone
_FREE = b""  # the content of a lock that nobody holds
ABSENT = 0  # the generation of an object that is not there, as the service has it


class Changed(Exception):
    """The object is not of the generation that was named."""


class ObjectStore(Protocol):
    """What a lock needs of a bucket."""

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns the content and the generation of an object; None when there is none."""

    def write(self, name: str, content: bytes, generation: int) -> int:
        """Replaces that generation of an object and returns the new one; raises `Changed`."""


@contextlib.contextmanager
def held(
    store: ObjectStore,
    path: str,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    stale_seconds: float = STALE_SECONDS,
) -> Iterator[None]:
    """Holds the lock while the block runs.

    Args:
      store: the bucket.
      path: of the object in it.
      heartbeat_seconds: between two writes of the holder.
      stale_seconds: how long a holder may be silent.

    Raises:
      ConfigError: another process holds it, and is alive.
      MachineError: the bucket cannot be reached.
    """
    owner = Owner.this_process()
    beating = _Heartbeat(store, path, owner, _acquire(store, path, owner, stale_seconds))
    thread = threading.Thread(target=beating.keep, args=(heartbeat_seconds,), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        beating.stop.set()
        thread.join(stale_seconds)
        try:
            store.write(path, _FREE, beating.generation)
        except (Changed, ConfigError, MachineError) as error:
            logging.warning("The lock %s could not be let go (%s); it counts for a minute more", path, error)


def _acquire(store: ObjectStore, path: str, owner: Owner, stale_seconds: float) -> int:
    """Returns the generation of the lock as this process has written it."""
    while True:
        found = store.read(path)
        generation = ABSENT if found is None else found[1]
        if found is not None and found[0] != _FREE:
            holder = Owner.from_json(found[0])
            if holder and holder.token == owner.token:
                return generation  # an earlier write came through, and its answer did not
            if not (holder and holder.is_dead()):
                _wait_until_stale(store, path, holder, generation, stale_seconds)
            logging.warning("Taking over the lock %s of %s, which is gone", path, holder or "an unknown process")
        with contextlib.suppress(Changed):
            return store.write(path, owner.to_json(), generation)


def _wait_until_stale(
    store: ObjectStore, path: str, holder: Owner | None, generation: int, stale_seconds: float
) -> None:
    """Returns when the holder was silent for long enough or has let go; raises `ConfigError` when it is alive."""
    logging.info("%s says %s; seeing for %.0f s whether that is alive", path, holder or "nothing", stale_seconds)
    until = time.monotonic() + stale_seconds
    while time.monotonic() < until:
        time.sleep(min(1.0, stale_seconds / 10))
        found = store.read(path)
        if found is None or found[0] == _FREE:
            return
        if found[1] != generation:
            raise refusal(path, Owner.from_json(found[0]))


class _Heartbeat:
    """Writes the lock anew, from a thread of its own, until `stop` is set."""

    def __init__(self, store: ObjectStore, path: str, owner: Owner, generation: int):
        self._store, self._path, self._owner = store, path, owner
        self.generation = generation
        self.stop = threading.Event()

    def keep(self, seconds: float) -> None:
        while not self.stop.wait(seconds):
            try:
                self.generation = self._store.write(self._path, self._owner.to_json(), self.generation)
            except (ConfigError, MachineError) as error:
                logging.warning("The lock %s could not be renewed: %s", self._path, error)
            except Changed:
                self._find_own()

    def _find_own(self) -> None:
        """Takes note of a write that succeeded without an answer; ends the process when the lock is another's."""
        try:
            found = self._store.read(self._path)
        except (ConfigError, MachineError):
            return  # to be found out at the next write
        if found is None:
            self.generation = ABSENT  # somebody cleared the bucket
            return
        holder = Owner.from_json(found[0])
        if holder and holder.token == self._owner.token:
            self.generation = found[1]
            return
        ending.abandon(
            MachineError(f"{self._path} was taken over by {holder or 'another process'}: ending here, unsaved")
        )
