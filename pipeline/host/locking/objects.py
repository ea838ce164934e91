"""A lock in a bucket: an object that its holder rewrites periodically, as a heartbeat.

An empty or missing object is a free lock. The service gives each write of an object a new generation number. Every write here
names the generation that it replaces, so only one of two contenders succeeds.

A contender waits for the holder's next write, and measures the wait by its own monotonic clock. It never compares the clocks of
two machines. A holder that has died on the contender's own machine is replaced without a wait.

A holder that loses the lock ends its process. One weakness remains: a holder that cannot reach the bucket learns that it lost
the lock only at its next successful request. Until then two processes believe that they hold it.
"""

import contextlib
import threading
import time
from collections.abc import Generator
from typing import Protocol

from absl import logging

from pipeline.errors import ConfigError, MachineError
from pipeline.host import ending
from pipeline.host.locking.files import refusal
from pipeline.host.locking.owner import Owner

HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 60.0  # a holder without a heartbeat for this long counts as dead
_FREE = b""  # the content of a free lock
ABSENT = 0  # the generation by which Cloud Storage denotes a missing object


class Changed(Exception):
    """The object does not have the expected generation, so nothing was written."""


class ObjectStore(Protocol):
    """The operations on a bucket that a lock needs.

    Both raise `ConfigError` if access is denied or the bucket does not exist, and `MachineError` if it cannot be reached.
    """

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns the content and the generation of an object; None if it does not exist."""

    def write(self, name: str, content: bytes, generation: int) -> int:
        """Writes an object if its generation is `generation`, or `ABSENT` for a missing one; returns the new generation.

        Raises:
          Changed: the object has another generation.
        """


@contextlib.contextmanager
def held(
    store: ObjectStore,
    path: str,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
    stale_seconds: float = STALE_SECONDS,
) -> Generator[None]:
    """Holds the lock while the block runs. Taking it waits up to `stale_seconds` for a sign of life from another holder.

    If another process takes the lock over while the block runs, this process ends with the exit code of a `MachineError`.

    Args:
      store: the bucket.
      path: the location of the object.
      heartbeat_seconds: the interval between the holder's writes.
      stale_seconds: the time without a write after which a holder counts as dead; more than `heartbeat_seconds`.

    Raises:
      ConfigError: another live process holds the lock, or the bucket denies access or does not exist.
      MachineError: the bucket cannot be reached.
    """
    owner = Owner.this_process()
    heartbeat = _Heartbeat(store, path, owner, _acquire(store, path, owner, stale_seconds))
    thread = threading.Thread(target=heartbeat.keep, args=(heartbeat_seconds,), name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        heartbeat.stop.set()
        thread.join(stale_seconds)  # a write under way changes the generation
        try:
            store.write(path, _FREE, heartbeat.generation)
        except (Changed, ConfigError, MachineError) as error:
            logging.warning(
                "The lock %s could not be released (%s); another process may have to wait %.0f s for it",
                path,
                error,
                stale_seconds,
            )


def _acquire(store: ObjectStore, path: str, owner: Owner, stale_seconds: float) -> int:
    """Takes the lock and returns the generation of its object; raises `ConfigError` if another live process holds it."""
    while True:
        found = store.read(path)
        generation = ABSENT if found is None else found[1]
        if found is not None and found[0] != _FREE:
            holder = Owner.from_json(found[0])
            if holder and holder.token == owner.token:
                return generation  # an earlier write succeeded, but its answer was lost
            if not (holder and holder.is_dead()):
                _wait_until_stale(store, path, holder, generation, stale_seconds)
            logging.warning("Taking over the lock %s of %s, which has ended", path, holder or "an unknown process")
        with contextlib.suppress(Changed):
            return store.write(path, owner.to_json(), generation)


def _wait_until_stale(
    store: ObjectStore, path: str, holder: Owner | None, generation: int, stale_seconds: float
) -> None:
    """Waits for `stale_seconds` without a write, or until the lock is free; raises `ConfigError` at a heartbeat."""
    logging.info(
        "%s is held by %s; waiting up to %.0f s for a sign of life",
        path,
        holder or "an unknown process",
        stale_seconds,
    )
    deadline = time.monotonic() + stale_seconds
    while time.monotonic() < deadline:
        time.sleep(min(1.0, stale_seconds / 10))
        found = store.read(path)
        if found is None or found[0] == _FREE:
            return
        if found[1] != generation:
            raise refusal(path, Owner.from_json(found[0]))


class _Heartbeat:
    """Rewrites the lock from its own thread until `stop` is set.

    Attributes:
      generation: the generation of this holder's last write.
      stop: ends the thread.
    """

    def __init__(self, store: ObjectStore, path: str, owner: Owner, generation: int):
        self._store, self._path, self._owner = store, path, owner
        self.generation = generation
        self.stop = threading.Event()

    def keep(self, seconds: float) -> None:
        """Writes every `seconds` seconds. Logs a failed write; ends the process if another one holds the lock."""
        while not self.stop.wait(seconds):
            try:
                self.generation = self._store.write(self._path, self._owner.to_json(), self.generation)
            except (ConfigError, MachineError) as error:
                logging.warning("The lock %s could not be renewed: %s", self._path, error)
            except Changed:
                self._resolve_conflict()

    def _resolve_conflict(self) -> None:
        """Finds out why the generation has changed.

        It adopts the generation of its own write whose answer was lost. It ends the process if another one holds the lock.
        """
        try:
            found = self._store.read(self._path)
        except (ConfigError, MachineError):
            return  # the next write meets the same conflict
        if found is None:
            self.generation = ABSENT  # the object was deleted; the next write creates it again
            return
        holder = Owner.from_json(found[0])
        if holder and holder.token == self._owner.token:
            self.generation = found[1]
            return
        ending.abandon(
            MachineError(f"{self._path} was taken over by {holder or 'another process'}: ending here, unsaved")
        )
