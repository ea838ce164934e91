"""Keeps the slice of one run from outside: asks for it, watches, replaces it, and deletes it at the end.

Owns the loop: look, decide (`slice_decisions.py`), act. The job is kept by worker 0 (`keeper.py`), and needs nobody here. Holds
nothing that it could not look up, so it may be ended at any time, and another one goes on. The invariant: `control.json` names
a new incarnation before a slice with that word is asked for, so a job runs once, whoever asks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pod import cost, history, slice_decisions
from pod.accelerators import Accelerator
from pod.bucket import ABSENT, Conflict
from pod.clock import Clock
from pod.control import SICK_SLICE, STOPPED, Bounds, Control, ControlError, ControlPlane, Job, JobState
from pod.control import Supervisor as Watcher
from pod.credentials import CredentialsError
from pod.errors import FAILED, FINISHED, Refused
from pod.http import ApiError
from pod.lock import Lost, RunLock
from pod.logs import LogFollower
from pod.options import Options
from pod.record import Record
from pod.removal import remove
from pod.run import Run
from pod.service import FLEX_START, QueuedResource, Service, SliceRequest
from pod.slice_decisions import ASK, END, REPLACE, STOP, WATCH, Decision, JobSeen, SliceSeen, Wanted

_CONTROL, _INCARNATION, _CODE = "pod-control", "pod-incarnation", "pod-code"


@dataclass
class Material:
    """What goes to the slice.

    Attributes:
      code: the archive of the checkout.
      code_name: the archive's object.
      environment: of the trainer.
      secrets: names in the environment with their versions in Secret Manager.
      startup_script: what each machine runs at its start.
    """

    code: bytes
    code_name: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    startup_script: str


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
        self._owner, self._clock = owner, clock or Clock()
        self._limits = options.limits
        self._wish = self._make_wish("", 0)
        self._control: Control | None = None
        self._known = self._asked = False
        self._published = False  # whether what is wanted, as it stands here, is in the bucket
        self._unused = False  # whether its incarnation is a word that no slice has had yet
        self._state: tuple[str, ...] = ()
        self._state_since = self._ready_since = self._job_since = self._announced = 0.0
        self._job_seen: tuple[Any, ...] = ()
        self._failures = self._sick = self._in_vain = 0  # in a row: requests, slices, both with want of capacity
        self._blamed = ""  # the incarnation whose end was counted
        self._progress = -1
        self._log = LogFollower(plane, sys.stdout)

    @property
    def version(self) -> str:
        """The version of the API that has the slice."""
        return self._wish.version

    def join(self) -> Control:
        """Takes over the run as it is in the bucket, or begins it anew, and returns what is wanted from now on.

        Raises:
          Refused: another job runs, or the slice is not the run's.
        """
        there = self._plane.read_control()
        job = self._plane.read_job()
        resource = self._service.queued_resource(self._run.name, self.version)
        now = self._clock.now()
        old = None if there is None else there.value
        state = None if job is None or old is None or job.value.job != old.job.id else job.value
        ended = state is not None and state.state == "ended" and state.outcome != SICK_SLICE
        same = old is not None and old.job.key == self._run.key
        word = "" if resource is None else resource.metadata.get(_INCARNATION, "")
        if resource is not None:
            self._check_owner(resource)
            alive = state is not None and not ended and state.incarnation == (word or state.incarnation)
            if alive and not same:
                name = self._run.name
                words = f"another job runs on {name}, started with other arguments"
                raise Refused(f"{words}: end it first with launch/tpu_pod.sh stop --name {name}")
        in_time = old is not None and old.deadline > now
        stopped = old is not None and (old.want == "stop" or (state is not None and state.outcome == STOPPED))
        goes_on = in_time and same and not ended and not stopped
        new_job = old is None or not (goes_on and resource is not None)
        self._control = Control(
            run=self._run.name,
            incarnation=old.incarnation if old is not None else (word or _word()),
            want="run",
            job=self._make_job(old.job.id if goes_on else _word()) if new_job else old.job,
            queued_resource=f"{self._service.parent}/queuedResources/{self._run.name}",
            workers=self._accelerator.machines,
            # A run that was stopped goes on with the time it has left.
            deadline=old.deadline if in_time and same and (goes_on or stopped) else self._new_deadline(),
            max_restarts=self._options.max_restarts,
            keep=self._options.keep,
            idle_seconds=self._limits.idle_seconds,
            bounds=Bounds(**{item.name: getattr(self._limits, item.name) for item in dataclasses.fields(Bounds)}),
            supervisor=self._me(),
        )
        if resource is not None:
            if new_job:
                self._bring()
            self._publish()
        self._progress = state.progress if state is not None else -1
        return self._control

    def _new_deadline(self) -> float:
        return self._clock.now() + self._options.deadline_hours * 3600

    def supervise(self) -> int:
        """Looks, decides and acts until the run is over; returns its exit status.

        Raises:
          Lost: another supervisor has taken over.
          Refused: something is wrong that only the user can change.
        """
        while True:
            self._lock.keep()
            self._announce()
            seen = self._look()
            if seen is None:
                self._pause(0)
                continue
            about_slice, job = seen
            decision = slice_decisions.decide(about_slice, self._job(about_slice, job), self._wanted(), self._limits)
            self._tell(decision)
            if decision.action == STOP:
                self._lock.keep(now=True)  # it may have been `down` on another machine
                if self._may_ask_again():
                    decision = Decision(ASK, "asked for again")
            if decision.action in (END, STOP):
                self._follow(job)
                if decision.action == END and decision.exit_code == FINISHED:
                    self._record.say(f"the results are in {self._run.workdir}")
                return self._end(decision)
            if decision.action == ASK:
                status = self._ask()
                if status is not None:
                    return status
            elif decision.action == REPLACE:
                status = self._replace(decision)
                if status is not None:
                    return status
            elif decision.action == WATCH:
                self._failures = self._in_vain = 0
                self._follow(job)
                self._pause(0)
            else:
                self._pause(0)

    def leave(self) -> None:
        """Says that nobody supervises the run any more, so that the keeper knows at once."""
        with contextlib.suppress(ApiError, ControlError, CredentialsError):  # the keeper finds out by the heartbeat
            self._plane.update_control(
                lambda old: None if old is None or not self._is_mine(old) else dataclasses.replace(old, supervisor=None)
            )
        self._lock.release()

    # What is seen.

    def _look(self) -> tuple[SliceSeen, JobState | None] | None:
        """Returns the slice and the job; None when the service or the bucket cannot be asked now."""
        node, job = None, None
        try:
            resource = self._service.queued_resource(self._run.name, self.version)
            if resource is not None and resource.state == "ACTIVE":
                node = self._service.node(resource.node or self._run.name, self.version)
            if self._published:
                stored = self._plane.read_job()
                job = None if stored is None else stored.value
                self._refresh()
        except (ApiError, CredentialsError, ControlError) as error:
            self._record.say(f"not to be seen: {error}; the job does not depend on it")
            return None
        word = ""
        if resource is not None:
            self._check_owner(resource)
            word = resource.metadata.get(_INCARNATION, "")
        known, asked = self._known, self._asked
        if resource is not None:
            self._known, self._asked = True, False
        wanted = self._control.incarnation if self._control is not None else ""
        if resource is not None and word in ("", wanted):
            self._unused = False
        ready = node is not None and node.state == "READY"
        state = ("absent" if resource is None else resource.state, "" if node is None else node.state, word or wanted)
        now = self._clock.monotonic()
        if state != self._state:
            self._state, self._state_since = state, now
            if ready:
                self._ready_since = self._job_since = now
                self._remember_ready()
        stale = bool(word) and word != wanted
        return SliceSeen(resource, node, known, asked, now - self._state_since, stale), job

    def _refresh(self) -> None:
        """Takes over what other commands want, such as `stop`."""
        stored = self._plane.read_control()
        if stored is None or self._control is None:
            return
        if stored.value.incarnation != self._control.incarnation:
            raise Lost("another supervisor has asked for another slice of this run")
        self._control = stored.value

    def _job(self, about_slice: SliceSeen, job: JobState | None) -> JobSeen:
        now = self._clock.monotonic()
        control = self._control
        if control is None or not self._published:
            return JobSeen()
        since_ready = now - self._ready_since if self._is_ready() else 0.0
        if job is None or job.incarnation != control.incarnation or job.job != control.job.id:
            return JobSeen(ready_seconds=since_ready, silent_seconds=since_ready)
        written = (job.updated, job.attempt, job.state)
        if written != self._job_seen:
            self._job_seen, self._job_since = written, now
        if job.progress > self._progress:
            self._progress, self._sick = job.progress, 0
        return JobSeen(
            state=job.state,
            outcome=job.outcome,
            message=job.message,
            exit_code=job.exit_code or 0,
            silent_seconds=now - self._job_since,
            ready_seconds=since_ready,
        )

    def _is_ready(self) -> bool:
        return len(self._state) > 1 and self._state[1] == "READY"

    def _wanted(self) -> Wanted:
        control = self._control
        if control is None:
            return Wanted()
        over = self._clock.now() - control.deadline if control.deadline else -1.0
        return Wanted(stop=control.want == "stop", keep=self._options.keep, over=over)

    def _check_owner(self, resource: QueuedResource) -> None:
        """Raises Refused where the queued resource is none of this run's, or of another type."""
        name = self._run.name
        said = resource.metadata.get(_CONTROL)
        if said is not None and said != self._run.control:
            words = f"the queued resource {name} belongs to the run in {said}"
            raise Refused(f"{words}: take another --name")
        if said is None and resource.metadata:
            raise Refused(f"there is a queued resource {name} that this launcher did not ask for: take another --name")
        if resource.accelerator_type and resource.accelerator_type != self._accelerator.type:
            words = f"the slice {name} is a {resource.accelerator_type}, not a {self._accelerator.type}"
            raise Refused(f"{words}: launch/tpu_pod.sh down --name {name}, or another --name")

    # What is done.

    def _ask(self) -> int | None:
        """Asks for a slice; returns the exit status when that is of no use."""
        control = self._control
        assert control is not None
        if not self._unused:
            self._control = dataclasses.replace(control, incarnation=_word(), supervisor=self._me())
            self._bring()
            self._publish()
            self._unused = True
        control = self._control
        assert control is not None
        hours_left = control.deadline - self._clock.now() if control.deadline else 0
        self._wish = self._make_wish(control.incarnation, hours_left)
        wish = self._wish
        self._record.say(f"asking for {wish.accelerator_type} in {wish.zone} ({wish.provisioning})")
        try:
            problem = self._service.create(wish)
            refusal = None if problem is None else slice_decisions.decide_failed(problem)
        except ApiError as error:
            if error.status == "ALREADY_EXISTS":
                refusal = None
            else:
                cause = slice_decisions.cause_of(0, error.status, error.message)
                refusal = slice_decisions.decide_refused(cause, str(error))
        except CredentialsError as error:
            refusal = slice_decisions.decide_refused(slice_decisions.LOGIN, str(error))
        self._known, self._asked = False, refusal is None
        if refusal is None:
            return None
        if refusal.action == END:
            self._record.say(f"giving up: {refusal.reason}")
            return self._end(refusal)
        self._failures += refusal.failed
        if self._failures >= self._limits.max_requests:
            return self._give_up(f"the slice was refused {self._failures} times: {refusal.reason}")
        self._record.say(f"the request was refused: {refusal.reason}; it is made again until the deadline")
        self._in_vain += 1
        self._pause(self._in_vain)
        return None

    def _replace(self, decision: Decision) -> int | None:
        """Deletes what is left of a slice; returns the exit status when it has failed too often."""
        control = self._control
        assert control is not None
        if self._blamed != control.incarnation:
            self._blamed = control.incarnation
            self._failures += decision.failed
            self._sick += decision.sick
        self._record.say(
            f"the slice is gone or of no use ({decision.reason}): deleting what is left, then asking for another; "
            "the run goes on from its checkpoint"
        )
        ran = self._is_ready() and not decision.sick
        try:
            self._remove(decision.reason)
        except Refused as error:
            self._record.say(str(error))
            return None  # the next look finds it again
        if self._failures >= self._limits.max_requests:
            return self._give_up(f"the slice failed {self._failures} times: {decision.reason}")
        if self._sick >= self._limits.max_setups:
            return self._give_up(f"nothing ran on {self._sick} slices in a row: {decision.reason}")
        if not ran:
            self._in_vain += 1
            self._pause(self._in_vain)
        return None

    def _give_up(self, reason: str) -> int:
        self._record.say(f"giving up: {reason}")
        return self._end(Decision(END, reason, FAILED))

    def _end(self, decision: Decision) -> int:
        """Ends the run. An end is an end: nobody pays for a slice that has nothing to do, unless asked to."""
        if decision.leave and self._is_ready():
            hours = self._limits.idle_seconds / 3600
            self._record.say(
                f"{cost.still_billed(self._accelerator, self._run.name)}, or for {hours:g} hours without a job"
            )
            return decision.exit_code
        self._record.say("deleting the slice (--keep leaves one that is ready)")
        try:
            self._remove(decision.reason)
            self._drop_environment()
        except (Refused, ApiError) as error:
            self._record.say(str(error))
        return decision.exit_code

    def _drop_environment(self) -> None:
        """Takes the trainer's environment out of the bucket, where a slice went before all its workers had read it."""
        if self._control is not None and self._control.job.environment:
            self._plane.bucket.delete(self._plane.name(self._control.job.environment))

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
        self._known = self._asked = False
        self._state = ()
        try:
            history.note_gone(self._plane, self._clock.now(), reason)
        except (ApiError, ControlError, CredentialsError) as error:
            self._record.say(f"cannot write down that the slice is gone: {error}")

    def _remember_ready(self) -> None:
        control = self._control
        if control is None:
            return
        try:
            history.note_ready(self._plane, control.incarnation, self._accelerator.chips, self._clock.now())
        except (ApiError, ControlError, CredentialsError) as error:
            self._record.say(f"cannot write down that the slice is ready: {error}")

    def _bring(self) -> None:
        """Puts code and environment into the bucket, and names them in what is wanted."""
        control, material, bucket = self._control, self._material, self._plane.bucket
        assert control is not None
        try:
            name = self._plane.name(material.code_name)
            bucket.write(name, material.code, if_generation=ABSENT, content_type="application/gzip")
        except Conflict:
            pass  # the same bytes are there already: the name is their checksum
        self._drop_environment()
        environment = ""
        if material.environment:
            environment = f"environment-{_word()}"
            content = json.dumps(dict(material.environment)).encode()
            bucket.write(self._plane.name(environment), content, if_generation=ABSENT, content_type="application/json")
        job = dataclasses.replace(control.job, code=material.code_name, environment=environment)
        self._control = dataclasses.replace(control, job=job)

    def _publish(self) -> None:
        """Writes what is wanted; only who has the lock may."""
        wanted = self._control
        assert wanted is not None
        self._lock.keep(now=True)
        self._plane.update_control(lambda old: wanted)
        self._published, self._announced = True, self._clock.monotonic()

    def _announce(self) -> None:
        """Says now and then that this supervisor is there."""
        now = self._clock.monotonic()
        if not self._published or now - self._announced < self._limits.lock_seconds:
            return
        self._announced = now
        try:
            self._plane.update_control(
                lambda old: (
                    None if old is None or not self._is_mine(old) else dataclasses.replace(old, supervisor=self._me())
                )
            )
        except (ApiError, ControlError, CredentialsError):
            return  # said at the next look, which fails too

    def _is_mine(self, control: Control) -> bool:
        return self._control is not None and control.incarnation == self._control.incarnation

    def _me(self) -> Watcher:
        return Watcher(self._owner, self._clock.now())

    def _follow(self, job: JobState | None) -> None:
        """Shows worker 0's log as it grows."""
        control = self._control
        if job is None or control is None or job.incarnation != control.incarnation or not job.attempt:
            return
        try:
            self._log.follow(control.incarnation, job.attempt, 0)
        except (ApiError, CredentialsError) as error:
            self._record.say(f"the log cannot be read now: {error}")

    def _tell(self, decision: Decision) -> None:
        if decision.action == WATCH:
            self._record.say(f"job: {decision.reason}")
        elif decision.action == END:
            self._record.say(decision.reason)
        elif decision.action == STOP:
            self._record.say(
                f"stopping: {decision.reason}. Nothing is asked for again by itself; go on with: "
                f"launch/tpu_pod.sh resume --name {self._run.name}"
            )
        elif decision.action != REPLACE:
            self._record.say(f"slice {self._run.name} ({self._accelerator.type}): {decision.reason}")

    def _may_ask_again(self) -> bool:
        """Asks the user, where there is a terminal, whether a slice that was deleted by hand is wanted again."""
        if self._options.dry_run or not sys.stdin or not sys.stdin.isatty():
            return False
        try:
            cost.confirm("Ask for another slice?")
        except Refused:
            return False
        self._remove("deleted by its user")
        return True

    def _pause(self, failures: int) -> None:
        self._clock.sleep(self._limits.poll_seconds * 2 ** min(failures, 4))

    def _make_job(self, word: str) -> Job:
        return Job(
            id=word,
            key=self._run.key,
            arguments=self._run.arguments,
            code=self._material.code_name,
            secrets=dict(self._material.secrets),
            mount=self._run.mount,
        )

    def _make_wish(self, incarnation: str, seconds_left: float) -> SliceRequest:
        options = self._options
        valid = int(options.valid_until_hours * 3600)
        if seconds_left > 0:
            left = max(round(seconds_left), 1)
            valid = min(valid, left) if valid else left
        longest = 0
        if options.provisioning == FLEX_START:
            longest = int(options.max_run_hours * 3600) or max(round(seconds_left), 1)
        metadata = {
            _CONTROL: self._run.control,
            _INCARNATION: incarnation,
            _CODE: self._material.code_name,
            "startup-script": self._material.startup_script,
        }
        return SliceRequest(
            name=self._run.name,
            project=options.project,
            zone=options.zone,
            accelerator_type=self._accelerator.type,
            runtime_version=self._accelerator.runtime_version,
            provisioning=options.provisioning,
            reservation=options.reservation,
            network=options.network,
            subnetwork=options.subnetwork,
            internal_ips=options.internal_ips,
            service_account=options.service_account,
            boot_disk_gb=options.boot_disk_gb,
            valid_until_seconds=valid,
            max_run_seconds=longest,
            metadata=metadata,
        )


def _word() -> str:
    return secrets.token_hex(8)
