"""What a supervisor wants of its run, as it stands in `control.json`.

Owns this supervisor's view of that object. Writes it only with the lock held, and changes it later only while it is still about
the slice that this supervisor asked for. What other commands write meanwhile, such as `stop`, is taken over at each look.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pod.clock import Clock
from pod.plane.control import Control, Supervisor
from pod.plane.control_plane import ControlPlane
from pod.plane.lock import Lost, RunLock


class WantedControl:
    """The wish of one supervisor.

    Args:
      plane: of the run.
      lock: of the run.
      owner: this supervisor's name.
      seconds: between two signs of life.
      clock: for them.

    Attributes:
      published: whether the wish, as it stands here, has been written.
    """

    def __init__(self, plane: ControlPlane, lock: RunLock, owner: str, seconds: float, clock: Clock):
        self._plane, self._lock, self._owner, self._seconds, self._clock = plane, lock, owner, seconds, clock
        self._control: Control | None = None
        self._announced = 0.0
        self.published = False

    @property
    def control(self) -> Control:
        """What is wanted."""
        assert self._control is not None, "it is set before anything is looked at"
        return self._control

    def set(self, control: Control) -> None:
        """Changes what is wanted here."""
        self._control = control

    def publish(self, control: Control) -> None:
        """Writes what is wanted; only who has the lock may."""
        self._lock.keep(now=True)
        self._plane.update_control(lambda old: control)
        self._control, self.published, self._announced = control, True, self._clock.monotonic()

    def adopt(self, there: Control | None) -> None:
        """Takes over what is in the bucket now.

        Raises:
          Lost: it is about another slice than this supervisor's.
        """
        if there is None:
            return
        if there.incarnation != self.control.incarnation:
            raise Lost("another supervisor has asked for another slice of this run")
        self._control = there

    def announce(self) -> None:
        """Says now and then that this supervisor is there."""
        now = self._clock.monotonic()
        if self.published and now - self._announced >= self._seconds:
            self._announced = now
            self._update(lambda control: dataclasses.replace(control, supervisor=self.me()))

    def resign(self) -> None:
        """Says that nobody supervises the run any more."""
        self._update(lambda control: dataclasses.replace(control, supervisor=None))

    def me(self) -> Supervisor:
        """Returns who supervises, and that it is here now."""
        return Supervisor(self._owner, self._clock.now())

    def _update(self, change: Callable[[Control], Control]) -> None:
        mine = self._control

        def changed(old: Control | None) -> Control | None:
            return change(old) if old is not None and mine is not None and old.incarnation == mine.incarnation else None

        self._plane.update_control(changed)
