"""A lock in a bucket: an object that its holder rewrites every few seconds, so a dead holder is noticed.

An empty object is a free lock. Every write names the generation that it replaces, so of two contenders one succeeds. A
waiting process judges by writes alone, on its own clock, whether the holder is alive; clocks of machines are never compared.
A holder that loses the lock ends itself. One limit remains: a holder that was cut off from the bucket learns of a take-over
only at its next write.
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
STALE_SECONDS = 60.0  # without a heartbeat for so long, a holder counts as dead
_FREE = b""  # the content of a free lock
ABSENT = 0  # the service's generation of a missing object


class Changed(Exception):
    """The object has another generation than expected."""


class ObjectStore(Protocol):
    """The operations on a bucket that a lock needs."""

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns the content and the generation of an object, or None."""

    def write(self, name: str, content: bytes, generation: int) -> int:
        """Replaces a generation of an object and returns the new one; raises `Changed` if it has another."""


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
      path: the location of the object.
      heartbeat_seconds: the interval of the holder's writes.
      stale_seconds: how long a holder may be silent.

    Raises:
      ConfigError: another process holds the lock and is alive.
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
            logging.warning("The lock %s could not be released (%s); it stays valid for a minute", path, error)


def _acquire(store: ObjectStore, path: str, owner: Owner, stale_seconds: float) -> int:
    """Takes the lock and returns the generation of its object."""
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
    """Waits until the holder is dead or releases the lock; raises `ConfigError` if it is alive."""
    logging.info(
        "%s is held by %s; checking for %.0f s whether that is alive",
        path,
        holder or "an unknown process",
        stale_seconds,
    )
    until = time.monotonic() + stale_seconds
    while time.monotonic() < until:
        time.sleep(min(1.0, stale_seconds / 10))
        found = store.read(path)
        if found is None or found[0] == _FREE:
            return
        if found[1] != generation:
            raise refusal(path, Owner.from_json(found[0]))


class _Heartbeat:
    """Rewrites the lock from its own thread until `stop` is set."""

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
        """Notes a write that succeeded without an answer; ends the process if another one holds the lock."""
        try:
            found = self._store.read(self._path)
        except (ConfigError, MachineError):
            return  # the next write will tell
        if found is None:
            self.generation = ABSENT  # the object was deleted
            return
        holder = Owner.from_json(found[0])
        if holder and holder.token == self._owner.token:
            self.generation = found[1]
            return
        ending.abandon(
            MachineError(f"{self._path} was taken over by {holder or 'another process'}: ending here, unsaved")
        )
