"""Keeps the slice of one run from outside: requests it, watches it, replaces it, and deletes it at the end.

The loop observes (`observer.py`), decides (`slice_decisions.py`) and acts. Worker 0 keeps the job (`keeper.py`) and does not
need a supervisor. A supervisor has no state that it could not look up, so it may end at any time and another one continues.
`control.json` names a new incarnation before its slice is requested, so a job runs once, whoever starts it.
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
from pod.slices import cost, slice_decisions
from pod.slices.accelerators import Accelerator
from pod.slices.joining import There, begin
from pod.slices.observer import Look, Observer
from pod.slices.removal import remove
from pod.slices.slice_decisions import ASK, END, REPLACE, STOP, WATCH, Decision, Wanted
from pod.slices.slice_request import INCARNATION, check_owner, make_request, send_request
from pod.starting.options import Options

_DISTURBED = (ApiError, ControlError, CredentialsError)


class Supervisor:
    """The supervisor of one run."""

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
        # Consecutive: failed requests, slices on which nothing ran, and both together with lack of capacity.
        self._failures = self._sick = self._in_vain = 0
        self._blamed = ""  # the incarnation whose end was counted last
        self._progress = -1

    @property
    def version(self) -> str:
        """The version of the API that has the slice."""
        return self._make_request("", 1).version

    def join(self) -> None:
        """Takes over the run from the bucket, or begins a new one.

        Raises:
          Refused: another job runs, or the slice is not the run's.
        """
        control, job = self._plane.read_control(), self._plane.read_job()
        resource = self._service.queued_resource(self._run.name, self.version)
        if resource is not None:
            check_owner(resource, self._run, self._accelerator)
        start = begin(
            There(
                control=None if control is None else control.value,
                job=None if job is None else job.value,
                has_slice=resource is not None,
                word="" if resource is None else resource.metadata.get(INCARNATION, ""),
            ),
            self._run,
            self._options,
            self._material,
            queued_resource=f"{self._service.parent}/queuedResources/{self._run.name}",
            workers=self._accelerator.machines,
            supervisor=self._wanted.me(),
            make_word=_word,
        )
        self._wanted.set(start.control)
        self._progress = start.progress
        deadline = time.strftime("%Y-%m-%d %H:%M", time.localtime(start.control.deadline))
        self._record.log(
            f"{'joining the job that is there' if start.joins else 'beginning'}; the deadline is {deadline}"
        )
        if resource is not None:
            self._observer.seen = True
            joined = start.control if start.joins else delivery.bring(self._plane, start.control, self._material)
            self._wanted.publish(joined)

    def supervise(self) -> int:
        """Observes, decides and acts until the run is over; returns its exit status.

        Raises:
          Lost: another supervisor has taken over.
          Refused: there is a problem that only the user can fix.
        """
        while True:
            try:
                status = self._step()
            except _DISTURBED as error:
                self._record.log(f"not to be seen: {error}; the job does not depend on it")
                self._pause(0)
                continue
            if status is not None:
                return status

    def leave(self) -> None:
        """Records that nobody supervises the run, so that the keeper knows at once."""
        with contextlib.suppress(*_DISTURBED):  # the keeper will notice the missing heartbeat
            self._wanted.resign()
        self._lock.release()

    def _step(self) -> int | None:
        """Takes one step; returns the exit status if it was the last."""
        self._lock.keep()
        self._wanted.announce()
        look = self._look()
        decision = slice_decisions.decide(look.slice, look.job, self._wish(), self._limits)
        self._tell(decision)
        if decision.action == STOP:
            self._lock.keep(now=True)  # `down` on another machine may have ended it
            if self._may_ask_again():
                return self._ask()
        if decision.action in (END, STOP):
            self._follow(look.state)
            if decision.action == END and decision.exit_code == FINISHED:
                self._record.log(f"the results are in {self._run.workdir}")
            return self._end(decision)
        if decision.action == ASK:
            return self._ask()
        if decision.action == REPLACE:
            return self._replace(decision)
        if decision.action == WATCH:
            self._failures = self._in_vain = 0
            self._follow(look.state)
        self._pause(0)
        return None

    def _look(self) -> Look:
        control = self._wanted.control
        look = self._observer.look(control, self.version, published=self._wanted.published)
        self._wanted.adopt(look.control)
        if look.newly_ready:
            self._write_down(
                lambda: history.note_ready(self._plane, control.incarnation, self._accelerator.chips, self._clock.now())
            )
        if look.state is not None and look.state.progress > self._progress:
            self._progress, self._sick = look.state.progress, 0
        return look

    def _wish(self) -> Wanted:
        control = self._wanted.control
        over = self._clock.now() - control.deadline if control.deadline else -1.0
        return Wanted(stop=control.want == "stop", keep=self._options.keep, over=over)

    def _ask(self) -> int | None:
        """Requests a slice; returns the exit status if that is hopeless."""
        control = self._wanted.control
        if self._observer.seen or not self._wanted.published:  # otherwise no slice has used the word yet
            control = dataclasses.replace(control, incarnation=_word(), supervisor=self._wanted.me())
            control = delivery.bring(self._plane, control, self._material)
            self._wanted.publish(control)
            self._observer.note_new_word()
        wish = self._make_request(control.incarnation, control.deadline - self._clock.now())
        self._record.log(f"asking for {wish.accelerator_type} in {wish.zone} ({wish.provisioning})")
        refusal = send_request(self._service, wish)
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
        self._in_vain += 1
        self._pause(self._in_vain)
        return None

    def _replace(self, decision: Decision) -> int | None:
        """Deletes what is left of a slice; returns the exit status if slices have failed too often."""
        if self._blamed != self._wanted.control.incarnation:
            self._blamed = self._wanted.control.incarnation
            self._failures += decision.failed
            self._sick += decision.sick
        self._record.log(
            f"the slice is gone or of no use ({decision.reason}): deleting what is left, then asking for another; "
            "the run continues from its checkpoint"
        )
        was_of_use = self._observer.ready and not decision.sick
        try:
            self._remove(decision.reason)
        except Refused as error:
            self._record.log(str(error))
            return None  # the next observation finds it again
        if self._failures >= self._limits.max_requests:
            return self._give_up(f"the slice failed {self._failures} times: {decision.reason}")
        if self._sick >= self._limits.max_setups:
            return self._give_up(f"nothing ran on {self._sick} slices in a row: {decision.reason}")
        if not was_of_use:
            self._in_vain += 1
            self._pause(self._in_vain)
        return None

    def _give_up(self, reason: str) -> int:
        self._record.log(f"giving up: {reason}")
        return self._end(Decision(END, reason, FAILED))

    def _end(self, decision: Decision) -> int:
        """Ends the run and, unless --keep was given, deletes the slice."""
        if decision.leave and self._observer.ready:
            hours = self._limits.idle_seconds / 3600
            billed = cost.still_billed(self._accelerator, self._run.name)
            self._record.log(f"{billed}, or for {hours:g} hours without a job")
            return decision.exit_code
        self._record.log("deleting the slice (--keep leaves one that is ready)")
        try:
            self._remove(decision.reason)
        except Refused as error:
            self._record.log(str(error))
        self._write_down(lambda: delivery.drop_environment(self._plane, self._wanted.control))
        return decision.exit_code

    def _remove(self, reason: str) -> None:
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
        """Writes something to the bucket on which nothing depends."""
        try:
            write()
        except _DISTURBED as error:
            self._record.log(f"the record in the bucket is not complete: {error}")

    def _follow(self, job: JobState | None) -> None:
        """Shows worker 0's log as it grows."""
        if job is None or not job.attempt:
            return
        try:
            self._log.follow(job.incarnation, job.attempt, 0)
        except (ApiError, CredentialsError) as error:
            self._record.log(f"the log cannot be read now: {error}")

    def _tell(self, decision: Decision) -> None:
        if decision.action == WATCH:
            self._record.log(f"job: {decision.reason}")
        elif decision.action == END:
            self._record.log(decision.reason)
        elif decision.action == STOP:
            self._record.log(
                f"stopping: {decision.reason}. Nothing is requested by itself; continue with: "
                f"launch/tpu_pod.sh resume --name {self._run.name}"
            )
        elif decision.action != REPLACE:
            self._record.log(f"slice {self._run.name} ({self._accelerator.type}): {decision.reason}")

    def _may_ask_again(self) -> bool:
        """Asks on a terminal whether to request a slice again that was deleted by hand."""
        if self._options.dry_run or not sys.stdin or not sys.stdin.isatty():
            return False
        try:
            cost.confirm("Ask for another slice?")
        except Refused:
            return False
        self._remove("deleted by its user")
        return True

    def _pause(self, in_vain: int) -> None:
        self._clock.sleep(self._limits.poll_seconds * 2 ** min(in_vain, 4))

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


def _word() -> str:
    return secrets.token_hex(8)
