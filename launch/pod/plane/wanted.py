"""A supervisor's view of `control.json`, which says what its run is to do.

The object is written only with the lock held, and changed later only while it is still about this supervisor's slice. Changes
of other commands, such as `stop`, are read at each observation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pod.clock import Clock
from pod.plane.control import Control, Supervisor
from pod.plane.control_plane import ControlPlane
from pod.plane.lock import Lost, RunLock


class WantedControl:
    """The desired state of a run, as one supervisor has decided it.

    Args:
      plane: the control plane of the run.
      lock: the lock of the run.
      owner: this supervisor's name.
      seconds: the time between two heartbeats.
      clock: the clock of the heartbeats.

    Attributes:
      published: whether the current state has been written.
    """

    def __init__(self, plane: ControlPlane, lock: RunLock, owner: str, seconds: float, clock: Clock):
        self._plane, self._lock, self._owner, self._seconds, self._clock = plane, lock, owner, seconds, clock
        self._control: Control | None = None
        self._announced = 0.0
        self.published = False

    @property
    def control(self) -> Control:
        """The control document: what the machines are to do."""
        assert self._control is not None, "it is set before anything is looked at"
        return self._control

    def set(self, control: Control) -> None:
        """Changes the desired state, without writing it."""
        self._control = control

    def publish(self, control: Control) -> None:
        """Writes the desired state; requires the lock."""
        self._lock.keep(now=True)
        self._plane.update_control(lambda old: control)
        self._control, self.published, self._announced = control, True, self._clock.monotonic()

    def adopt(self, current: Control | None) -> None:
        """Takes over the desired state that the bucket has now.

        Raises:
          Lost: it names another slice than this supervisor's.
        """
        if current is None:
            return
        if current.incarnation != self.control.incarnation:
            raise Lost("another supervisor has requested another slice for this run")
        self._control = current

    def announce(self) -> None:
        """Writes this supervisor's heartbeat if it is due."""
        now = self._clock.monotonic()
        if self.published and now - self._announced >= self._seconds:
            self._announced = now
            self._update(lambda control: dataclasses.replace(control, supervisor=self.me()))

    def resign(self) -> None:
        """Records that nobody supervises the run."""
        self._update(lambda control: dataclasses.replace(control, supervisor=None))

    def me(self) -> Supervisor:
        """Returns this supervisor with the current time."""
        return Supervisor(self._owner, self._clock.now())

    def _update(self, change: Callable[[Control], Control]) -> None:
        mine = self._control

        def changed(old: Control | None) -> Control | None:
            return change(old) if old is not None and mine is not None and old.incarnation == mine.incarnation else None

        self._plane.update_control(changed)
