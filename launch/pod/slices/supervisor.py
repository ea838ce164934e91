"""Manages the slice of one run, from the user's machine: requests it, watches it, replaces it, and deletes it at the end.

The loop observes (`observer.py`), decides (`slice_decisions.py`) and acts. Worker 0 of the slice manages the job (`keeper.py`)
and does not need a supervisor. The service and the bucket have all state that a run needs. A supervisor holds only counts and
durations, which its successor starts from zero. So it may end at any time, and another one continues.

Each slice has a random identifier, its incarnation. `control.json` names a new incarnation before its slice is requested, and
only the slice that it names may run the job. So a job runs once, whoever starts it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import sys
import time
from collections.abc import Callable

from pod.clock import Clock
from pod.errors import FAILED, FINISHED, Refused
from pod.options import Options
from pod.plane import delivery, history
from pod.plane.control import JobState
from pod.plane.control_plane import ControlError, ControlPlane
from pod.plane.delivery import Material
from pod.plane.lock import RunLock
from pod.plane.logs import LogFollower
from pod.plane.wanted import WantedControl
from pod.record import Record
from pod.run import Run
from pod.services.credentials import CredentialsError
from pod.services.http import ApiError
from pod.services.service import Service, SliceRequest
from pod.slices import cost, messages, slice_decisions
from pod.slices.accelerators import Accelerator
from pod.slices.joining import Existing, begin
from pod.slices.observer import Observation, Observer
from pod.slices.removal import remove
from pod.slices.slice_decisions import ASK, END, REPLACE, STOP, WATCH, Decision, Wanted
from pod.slices.slice_request import INCARNATION, check_owner, make_request, send_request

# The service or the bucket does not answer properly now; a later step tries again.
_TRANSIENT = (ApiError, ControlError, CredentialsError)


class Supervisor:
    """The supervisor of one run.

    Args:
      run: the run.
      options: the user's options, complete.
      accelerator: the type of the slice.
      material: code, environment and startup script for the slice.
      service: the Cloud TPU API.
      plane: the control plane: the run's objects in the bucket.
      lock: the lock of the run, held by the caller.
      record: the log for the user.
      owner: this supervisor's name.
      clock: the clock; None for the system's.
    """

    def __init__(
        self,
        run: Run,
        options: Options,
        accelerator: Accelerator,
        material: Material,
        service: Service,
        plane: ControlPlane,
        lock: RunLock,
        record: Record,
        owner: str,
        clock: Clock | None = None,
    ):
        self._run, self._options, self._accelerator, self._material = run, options, accelerator, material
        self._service, self._plane, self._lock, self._record = service, plane, lock, record
        self._clock, self._limits = clock or Clock(), options.limits
        self._wanted = WantedControl(plane, lock, owner, options.limits.lock_seconds, self._clock)
        self._observer = Observer(run, accelerator, service, plane, self._clock, options.limits.poll_seconds)
        self._log = LogFollower(plane, sys.stdout)
        self._failures = 0  # consecutive slices that the service refused or failed, other than for lack of capacity
        self._sick_slices = 0  # consecutive slices on which nothing ran
        self._backoff = 0  # consecutive requests without a usable slice, whatever the reason; each doubles the pause
        self._counted = ""  # the incarnation whose failure was counted last, so that it counts once
        self._progress = -1  # the highest step seen of the job

    @property
    def version(self) -> str:
        """The version of the Cloud TPU API that offers this kind of slice."""
        return self._make_request("", 1).version

    def join(self) -> None:
        """Takes over the run from the bucket, or begins a new one. Does not request a slice.

        Raises:
          Refused: another job runs, or the queued resource of this name is not the run's.
          ApiError, ControlError, CredentialsError: the service or the bucket does not answer.
        """
        control, job = self._plane.read_control(), self._plane.read_job()
        resource = self._service.queued_resource(self._run.name, self.version)
        if resource is not None:
            check_owner(resource, self._run, self._accelerator)
        start = begin(
            Existing(
                control=None if control is None else control.value,
                job=None if job is None else job.value,
                has_slice=resource is not None,
                incarnation="" if resource is None else resource.metadata.get(INCARNATION, ""),
            ),
            self._run,
            self._options,
            self._material,
            queued_resource=f"{self._service.parent}/queuedResources/{self._run.name}",
            workers=self._accelerator.machines,
            supervisor=self._wanted.me(),
            make_id=_random_id,
        )
        self._wanted.set(start.control)
        self._progress = start.progress
        deadline = time.strftime("%Y-%m-%d %H:%M", time.localtime(start.control.deadline))
        self._record.log(f"{'joining the existing job' if start.joins else 'beginning'}; the deadline is {deadline}")
        if resource is not None:
            self._observer.seen = True
            joined = start.control if start.joins else delivery.upload(self._plane, start.control, self._material)
            self._wanted.publish(joined)

    def supervise(self) -> int:
        """Observes, decides and acts until the run is over; returns the run's exit code. Call `join` first.

        Raises:
          Lost: another supervisor has taken over.
          Refused: there is a problem that only the user can fix.
        """
        while True:
            try:
                status = self._step()
            except _TRANSIENT as error:
                self._record.log(f"cannot observe the run now: {error}; the job does not depend on it")
                self._pause(0)
                continue
            if status is not None:
                return status

    def leave(self) -> None:
        """Records that nobody supervises the run, so that the keeper knows at once."""
        with contextlib.suppress(*_TRANSIENT):  # the keeper will notice the missing heartbeat
            self._wanted.resign()
        self._lock.release()

    def _step(self) -> int | None:
        """Observes, decides and acts once; returns the exit code if the run is over, else None."""
        self._lock.keep()
        self._wanted.announce()
        seen = self._look()
        decision = slice_decisions.decide(seen.slice, seen.job, self._user_wishes(), self._limits)
        if decision.action != REPLACE:  # `_replace` logs its own
            self._record.log(messages.describe(decision, self._run.name, self._accelerator.type))
        if decision.action == STOP:
            self._lock.keep(now=True)  # `down` on another machine may have ended it
            if not self._options.dry_run and messages.user_wants_another_slice():
                self._lock.keep(now=True)  # after a night, another supervisor may have a slice
                self._remove("deleted by its user")
                return self._ask()
        if decision.action in (END, STOP):
            self._follow(seen.state)
            if decision.action == END and decision.exit_code == FINISHED:
                self._record.log(f"the results are in {self._run.workdir}")
            return self._end(decision)
        if decision.action == ASK:
            return self._ask()
        if decision.action == REPLACE:
            return self._replace(decision)
        if decision.action == WATCH:
            self._failures = self._backoff = 0
            self._follow(seen.state)
        self._pause(0)
        return None

    def _look(self) -> Observation:
        """Observes once. Records a new slice in the history, and resets the count of sick slices after progress."""
        control = self._wanted.control
        seen = self._observer.look(control, self.version, published=self._wanted.published)
        self._wanted.adopt(seen.control)
        if seen.newly_ready:
            self._write_down(
                lambda: history.note_ready(self._plane, control.incarnation, self._accelerator.chips, self._clock.now())
            )
        if seen.state is not None and seen.state.progress > self._progress:
            self._progress, self._sick_slices = seen.state.progress, 0
        return seen

    def _user_wishes(self) -> Wanted:
        control = self._wanted.control
        over = self._clock.now() - control.deadline if control.deadline else -1.0  # a deadline of 0 means none
        return Wanted(stop=control.want == "stop", keep=self._options.keep, over=over)

    def _ask(self) -> int | None:
        """Requests a slice; returns the exit code if the run ends because no request can succeed, else None."""
        control = self._wanted.control
        if self._observer.seen or not self._wanted.published:  # else no slice has had this incarnation
            control = dataclasses.replace(control, incarnation=_random_id(), supervisor=self._wanted.me())
            control = delivery.upload(self._plane, control, self._material)
            self._wanted.publish(control)
            self._observer.note_new_incarnation()
        request = self._make_request(control.incarnation, control.deadline - self._clock.now())
        self._record.log(f"asking for {request.accelerator_type} in {request.zone} ({request.provisioning})")
        refusal = send_request(self._service, request)
        self._observer.note_asked(refusal is None)
        if refusal is None:
            return None
        if refusal.action == END:
            self._record.log(f"giving up: {refusal.reason}")
            return self._end(refusal)
        self._failures += refusal.failed
        if self._failures >= self._limits.max_requests:
            return self._give_up(f"the slice was refused {self._failures} times: {refusal.reason}")
        self._record.log(f"the request was refused: {refusal.reason}; it is made again until the deadline")
        self._backoff += 1
        self._pause(self._backoff)
        return None

    def _replace(self, decision: Decision) -> int | None:
        """Deletes what is left of a slice; returns the exit code if slices have failed too often, else None.

        The next step requests another slice. The pause before it grows only if this slice was of no use to the job.
        """
        if self._counted != self._wanted.control.incarnation:
            self._counted = self._wanted.control.incarnation
            self._failures += decision.failed
            self._sick_slices += decision.sick
        self._record.log(
            f"the slice is gone or unusable ({decision.reason}): deleting what is left, then asking for another; "
            "the run continues from its checkpoint"
        )
        was_usable = self._observer.ready and not decision.sick
        try:
            self._remove(decision.reason)
        except Refused as error:
            self._record.log(str(error))
            return None  # the next observation finds it again
        if self._failures >= self._limits.max_requests:
            return self._give_up(f"the slice failed {self._failures} times: {decision.reason}")
        if self._sick_slices >= self._limits.max_setups:
            return self._give_up(f"nothing ran on {self._sick_slices} slices in a row: {decision.reason}")
        if not was_usable:
            self._backoff += 1
            self._pause(self._backoff)
        return None

    def _give_up(self, reason: str) -> int:
        self._record.log(f"giving up: {reason}")
        return self._end(Decision(END, reason, FAILED))

    def _end(self, decision: Decision) -> int:
        """Deletes the slice, unless the decision leaves one that is ready; returns the exit code.

        A slice that cannot be deleted is reported, and is no error.
        """
        if decision.leave and self._observer.ready:
            billed = cost.still_billed(self._accelerator, self._run.name)
            self._record.log(f"{billed}, or for {self._limits.idle_seconds / 3600:g} hours without a job")
            return decision.exit_code
        self._record.log("deleting the slice (--keep leaves one that is ready)")
        try:
            self._remove(decision.reason)
        except Refused as error:
            self._record.log(str(error))
        self._write_down(lambda: delivery.delete_environment(self._plane, self._wanted.control))
        return decision.exit_code

    def _remove(self, reason: str) -> None:
        """Deletes the slice and waits until it is gone; raises Refused if that fails."""
        remove(
            self._service,
            self._run.name,
            self.version,
            seconds=self._limits.long_call_seconds,
            pause=self._limits.poll_seconds,
            clock=self._clock,
            each_time=self._lock.keep,
        )
        self._observer.note_removed()
        self._write_down(lambda: history.note_gone(self._plane, self._clock.now(), reason))

    def _write_down(self, write: Callable[[], None]) -> None:
        """Calls `write`, and only reports a failure: nothing depends on what it writes."""
        try:
            write()
        except _TRANSIENT as error:
            self._record.log(f"the record in the bucket is incomplete: {error}")

    def _follow(self, job: JobState | None) -> None:
        """Prints what is new in worker 0's log."""
        if job is None or not job.attempt:
            return
        try:
            self._log.follow(job.incarnation, job.attempt, 0)
        except (ApiError, CredentialsError) as error:
            self._record.log(f"the log cannot be read now: {error}")

    def _pause(self, backoff: int) -> None:
        """Sleeps for `poll_seconds`, doubled `backoff` times, four times at most."""
        self._clock.sleep(self._limits.poll_seconds * 2 ** min(backoff, 4))

    def _make_request(self, incarnation: str, seconds_left: float) -> SliceRequest:
        return make_request(
            self._run,
            self._options,
            self._accelerator,
            incarnation=incarnation,
            code_name=self._material.code_name,
            startup_script=self._material.startup_script,
            seconds_left=seconds_left,
        )


def _random_id() -> str:
    """Returns 16 random hex digits."""
    return secrets.token_hex(8)
