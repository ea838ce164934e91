"""The agent on one machine of a slice: it does what the bucket asks for, and reports what happens here.

startup.sh starts `python3 -m pod.agent ROOT`, also after a crash or a reboot. The agent loops: it reads the bucket, prepares
the machine, starts or ends the trainer, reports, and sends the log. On worker 0 it also runs the job's keeper. All its state
is on the disk or in the bucket, so it may end at any time. It runs a trainer only while `control.json` names its own
incarnation, and ends it at once if another is named. An unreachable bucket stops nothing that runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pod.clock import Clock
from pod.job import failures
from pod.job.keeper import Keeper
from pod.job.surrender import OwnSlice, Surrender
from pod.plane.control import Bounds, Control, JobState, WorkerReport
from pod.plane.control_plane import ControlError, ControlPlane
from pod.services.bucket import Bucket, Conflict, split_url
from pod.services.credentials import Credentials, CredentialsError, MetadataCredentials
from pod.services.endpoints import Endpoints, find_endpoints
from pod.services.http import ApiError
from pod.slices import controller
from pod.worker.log_pieces import TrainerLog, tail
from pod.worker.machine import Machine, Notices, boot_id, find_attribute, find_machine, find_role, is_going_down
from pod.worker.preparation import Preparation
from pod.worker.trainer import Attempt, Attempts

_TICK_SECONDS = 0.5
_SHUTDOWN_SECONDS = 100.0  # less than startup.sh has systemd wait
_MESSAGE_LINES, _MESSAGE_BYTES = 20, 2000


class Agent:
    """The agent of one machine.

    Args:
      machine: this machine, from the metadata server.
      root: the folder of all state on this machine.
      plane: the control plane; its requests are retried for a few seconds only.
      credentials: credentials of the machine's service account.
      endpoints: the services' URLs.
      clock: the clock.
      become: called with a folder of code, to continue as the agent of that code.
    """

    def __init__(
        self,
        machine: Machine,
        root: Path,
        plane: ControlPlane,
        credentials: Credentials,
        endpoints: Endpoints,
        clock: Clock,
        become: Callable[[Path], None],
    ):
        self._machine, self._root, self._plane = machine, root, plane
        self._credentials, self._endpoints, self._clock, self._become = credentials, endpoints, clock, become
        self._attempts = Attempts(root / "attempts")
        self._notices = Notices(endpoints, self._on_notice)
        self._bounds = Bounds()
        self._preparation: Preparation | None = None
        self._log = TrainerLog(plane, machine.incarnation, machine.worker, clock)
        self._remembered = self._leaving = False
        self._failure = ""
        surrender = Surrender(machine.incarnation, credentials, endpoints, clock)
        self._own_slice = OwnSlice(surrender, root / "queued_resource", machine.worker == 0, clock)
        self._keeper = Keeper(plane, machine.incarnation, surrender, clock) if machine.worker == 0 else None

    def run(self) -> None:
        """Loops for as long as the machine lives."""
        self._notices.start()
        due, before = 0.0, None
        while not self._leaving:
            here = self._local_state()
            if here != before or self._clock.monotonic() >= due:
                due = self._clock.monotonic() + self._bounds.poll_seconds
                self.look()
                before = self._local_state()
            self._clock.sleep(min(_TICK_SECONDS, self._bounds.poll_seconds / 4))
        if is_going_down():
            self._save()

    def leave(self, *_: object) -> None:
        """Ends `run` when the system asks this process to end. The trainer continues unless the machine ends."""
        self._leaving = True

    def look(self) -> None:
        """Reads the bucket once and acts on it; an unreachable bucket is read again later."""
        try:
            self._remember()
            stored = self._plane.read_job()
            found = self._plane.read_control()  # read after the job: if it names this incarnation, both may be acted on
            wanted = None if found is None else found.value
            if wanted is None or wanted.incarnation != self._machine.incarnation:
                self._stand_aside(wanted)
                return
            self._bounds = wanted.bounds
            self._own_slice.confirm(wanted)
            job = None if stored is None else stored.value
            self._prepare(wanted)
            # Observe first, then send the log, so the log of a reported end is complete. Both are in the bucket before the
            # keeper acts, as this machine may go with its slice.
            sent = self._send_log(self._report(), wanted)
            self._plane.report(self._machine.incarnation, self._machine.worker, sent)
            if self._keeper is not None:
                job = self._keeper.step(wanted, stored, sent)
            self._follow(wanted, job)
            report = self._report()
            if (report.state, report.attempt) != (sent.state, sent.attempt):
                self._plane.report(self._machine.incarnation, self._machine.worker, report)
            self._note(self._own_slice.after_a_look(wanted, job, self._running() is not None))
        except Conflict:
            return
        except (ApiError, CredentialsError, ControlError) as error:
            self._note(str(error))

    # The state of this machine.

    def _local_state(self) -> tuple[object, ...]:
        """Returns values whose change is worth reading the bucket at once."""
        newest = self._attempts.newest()
        preparation = self._preparation
        return (
            newest.number if newest is not None else 0,
            newest is not None and newest.is_running(),
            preparation.state if preparation is not None else "",
            self._notices.notice,
        )

    def _report(self) -> WorkerReport:
        newest, preparation = self._attempts.newest(), self._preparation
        report = WorkerReport(
            state="fetched" if preparation is None else preparation.state,
            message="" if preparation is None else preparation.message,
            environment=preparation.job.environment if preparation is not None and preparation.state == "ready" else "",
            job=preparation.job.id if preparation is not None and preparation.state == "ready" else "",
            boot_id=boot_id(),
            notice=self._notices.notice,
            heartbeat=self._clock.now(),
        )
        if newest is None:
            return report
        report = dataclasses.replace(
            report,
            attempt=newest.number,
            log_pieces=self._log.pieces(newest).pieces,
            step=self._log.progress(newest),
        )
        ended = newest.ended()
        if ended is None:
            return dataclasses.replace(report, state="running", log_silent_seconds=self._log.silence(newest))
        kind = failures.kind_of(ended.exit_code, tail(newest.log), newest.was_asked)
        report = dataclasses.replace(report, exit_code=ended.exit_code, ended_at=ended.at, kind=kind)
        if report.state == "ready":
            report = dataclasses.replace(report, state="ended")
        if not report.message and kind != failures.FINISHED:
            lines = tail(newest.log, 4 * _MESSAGE_BYTES).splitlines()[-_MESSAGE_LINES:]
            report = dataclasses.replace(report, message="\n".join(lines)[-_MESSAGE_BYTES:])
        return report

    def _running(self) -> Attempt | None:
        newest = self._attempts.newest()
        return newest if newest is not None and newest.ended() is None else None

    # What is done.

    def _remember(self) -> None:
        """Restores from the bucket what ran here before this machine lost its disk."""
        if self._remembered:
            return
        before = self._plane.workers(self._machine.incarnation).get(self._machine.worker)
        newest = self._attempts.newest()
        if before is not None and before.attempt > (newest.number if newest is not None else 0):
            self._attempts.mark_started(before.attempt)
        self._remembered = True

    def _prepare(self, wanted: Control) -> None:
        """Prepares this machine for the wanted job, unless a trainer runs."""
        if self._running() is not None or (self._preparation is not None and self._preparation.job == wanted.job):
            return
        if self._preparation is not None:
            self._preparation.cancel()
        self._preparation = Preparation(
            self._root,
            self._plane,
            self._credentials,
            self._endpoints,
            wanted.job,
            wanted.bounds.setup_seconds,
            self._clock,
        )

    def _follow(self, wanted: Control, job: JobState | None) -> None:
        """Starts or ends the trainer according to the job's state."""
        running, ready = self._running(), self._preparation
        if ready is not None and (ready.state != "ready" or ready.job != wanted.job):
            ready = None
        if running is None and ready is not None and ready.code != self._own_code():
            self._become(ready.code)  # continue with the agent of the job's own code
        if job is None or job.incarnation != self._machine.incarnation:
            return
        if running is not None:
            asked = job.ask if job.attempt == running.number else "kill"  # an attempt that was given up is killed
            if wanted.want == "stop" or self._notices.notice or asked == "stop":
                running.ask_to_stop()
            if asked == "kill":
                running.kill()
            return
        newest = self._attempts.newest()
        number = newest.number if newest is not None else 0
        if job.state != "running" or job.attempt <= number:
            return
        if job.ask:  # to stop, before it started here: the keeper waits for its end on every worker
            self._attempts.mark_started(job.attempt)
        elif ready is not None and job.job == wanted.job.id:
            self._attempts.start(job.attempt, self._command(wanted), ready.environment, ready.code)

    def _command(self, wanted: Control) -> list[str]:
        return [str(self._root / ".venv" / "bin" / "python"), "-m", "pipeline.train", *wanted.job.arguments]

    def _own_code(self) -> Path:
        return Path(__file__).resolve().parents[2]

    def _send_log(self, report: WorkerReport, wanted: Control) -> WorkerReport:
        """Sends the new part of the log; returns the report with how much of it is in the bucket."""
        newest = self._attempts.newest()
        if newest is None:
            return report
        self._log.send(newest, wanted)
        return dataclasses.replace(report, log_pieces=self._log.pieces(newest).pieces)

    def _stand_aside(self, wanted: Control | None) -> None:
        """Ends the trainer, because another slice may run the job."""
        running = self._running()
        if running is not None:
            running.kill()
        self._note(self._own_slice.deny(wanted))

    def _on_notice(self, notice: str) -> None:
        """Asks the trainer to save at once, with seconds left; runs in the thread that waits for notices."""
        running = self._running()
        if running is not None and running.ask_to_stop():
            print(f"{notice}: asked the trainer to save", flush=True)

    def _save(self) -> None:
        """Asks the trainer to save before the machine ends; the system keeps the network until this process ends."""
        self._on_notice("shutdown")
        end = self._clock.monotonic() + _SHUTDOWN_SECONDS
        while self._running() is not None and self._clock.monotonic() < end:
            self._clock.sleep(0.1)
        self.look()

    def _note(self, words: str) -> None:
        if words and words != self._failure:
            with contextlib.suppress(OSError):  # a full disk is no reason to fall silent
                print(words, flush=True)
        self._failure = words


def main(root: Path) -> None:
    """Runs the agent of this machine, unless one is already running."""
    root = root.resolve()
    lock = (root / "agent.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("an agent runs here already")
        return
    clock, endpoints = Clock(), find_endpoints()
    credentials = MetadataCredentials(endpoints, clock)
    if find_role(endpoints, clock) == controller.ROLE_NAME:
        controller.main(root, find_attribute(endpoints, "pod-control", clock), credentials, endpoints, clock)
        return
    machine = find_machine(endpoints, clock)
    bucket, folder = split_url(machine.control)
    plane = ControlPlane(Bucket(bucket, credentials, endpoints, patience=5, clock=clock), folder)

    def become(code: Path) -> None:
        """Runs newer code in this process. It is found by the name of this module, which must therefore never change."""
        os.chdir(code / "launch")
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "pod.agent", str(root)])

    agent = Agent(machine, root, plane, credentials, endpoints, clock, become)
    signal.signal(signal.SIGTERM, agent.leave)
    agent.run()
    sys.exit(128 + signal.SIGTERM)  # systemd may start it again


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(Path(sys.argv[1]))
