"""The supervisor's loop with time that passes at once: how long it waits, how often it asks, and when it gives up.

Whole runs with processes, signals and a real protocol are in test_pod_*.py; here are the days that they cannot wait for.
"""

import pytest
from clocks import SteppedClock
from pod.options import Limits, Options
from pod.plane.control import JobState
from pod.plane.control_plane import ControlPlane, Stored
from pod.plane.delivery import Material
from pod.plane.lock import Lost, RunLock
from pod.record import Record
from pod.run import Run
from pod.services import service
from pod.services.bucket import split_url
from pod.services.http import ApiError
from pod.services.service import Node, Problem, QueuedResource
from pod.slices import messages
from pod.slices.accelerators import find_accelerator
from pod.slices.supervisor import Supervisor
from pod.starting.rehearsal import RehearsedBucket

HOUR = 3600.0
SLOW = Limits(poll_seconds=120, lock_seconds=600)  # for days that would be many looks
RUN = Run("t", "gs://b/r", "gs://b/r/pod", ("--config=c.py",), "key", "")


class Script:
    """A service whose slices go the way that a test says: a function of the slice's number and its age in seconds.

    It returns (state of the queued resource, state of the node), or a `Problem` with which the request failed.
    """

    parent = "projects/p/locations/z-1-a"

    def __init__(self, clock, way, refuse=lambda number: None):
        self.clock, self.way, self.refuse = clock, way, refuse
        self.asked, self.wishes, self.there, self.born = [], [], None, 0.0

    def create(self, wish):
        self.asked.append(wish)
        error = self.refuse(len(self.asked))
        if error is not None:
            raise error
        self.there, self.born = wish, self.clock.time
        self.wishes.append(wish)

    def queued_resource(self, name, version=service.STABLE):
        if self.there is None:
            return None
        now = self.way(len(self.wishes), self.clock.time - self.born)
        problem = now if isinstance(now, Problem) else None
        state = "FAILED" if problem else now[0]
        return QueuedResource(name, state, "SERVICE", problem, name, "v5p-16", self.there.metadata)

    def node(self, name, version=service.STABLE):
        if self.there is None:
            return None
        return Node(name, self.way(len(self.wishes), self.clock.time - self.born)[1], workers=2)

    def delete_queued_resource(self, name, version=service.STABLE):
        self.there = None
        return True


class World:
    """A supervisor, a service and a bucket in memory."""

    def __init__(self, tmp_path, way, refuse=lambda number: None, job=lambda number, age: None, **options):
        self.clock = SteppedClock()
        self.service = Script(self.clock, way, refuse)
        bucket, folder = split_url(RUN.control)
        self.plane = ControlPlane(RehearsedBucket(bucket, "z-1", lambda line: None), folder)
        self.job, self.last_job = job, None
        given = Options(name="t", project="p", zone="z-1-a", type="v5p-16", provisioning="spot", **options)
        record = Record("t", {"POD_RECORDS": str(tmp_path / "records")})
        lock = RunLock(self.plane.bucket, self.plane.name(), "me", given.limits.lock_seconds, self.clock)
        material = Material(b"code", "code-1.tar.gz", {"KEY": "value"}, {}, "#!/bin/sh\n")
        accelerator = find_accelerator("v5p-16")
        self.supervisor = Supervisor(
            RUN, given, accelerator, material, self.service, self.plane, lock, record, "me", self.clock
        )
        lock.take()
        self.plane.read_job = self.read_job

    def read_job(self):
        """What the keeper of the present slice has written by now."""
        wanted = self.plane.read_control()
        said = self.job(len(self.service.wishes), self.clock.time - self.service.born)
        if wanted is None or said is None or self.service.there is None:
            return self.last_job
        incarnation, job = wanted.value.incarnation, wanted.value.job.id
        self.last_job = Stored(JobState(incarnation, job, attempt=1, updated=self.clock.time, **said), 1)
        return self.last_job

    def run(self):
        self.supervisor.join()
        return self.supervisor.supervise()

    @property
    def hours(self):
        return (self.clock.time - 1e9) / HOUR

    def environments(self):
        return [name for name in self.plane.bucket.objects if "environment-" in name]


READY = ("ACTIVE", "READY")
QUOTA = ApiError(429, "RESOURCE_EXHAUSTED", "Quota limit 'TPUV5' has been exceeded. Limit: 0", "url")
DISTURBED = ApiError(503, "UNAVAILABLE", "try again", "url")
DENIED = ApiError(403, "PERMISSION_DENIED", "no permission", "url")
WRONG = ApiError(400, "INVALID_ARGUMENT", "no such network", "url")
ODD = ApiError(418, "", "I am a teapot", "url")


@pytest.mark.parametrize("error", [QUOTA, DISTURBED])
def test_a_refusal_that_may_pass_is_waited_for_until_the_deadline(tmp_path, capsys, error):
    world = World(tmp_path, lambda number, age: READY, refuse=lambda number: error, deadline_hours=12)
    assert world.run() == 75
    assert 12 <= world.hours < 12.2
    assert len(world.service.asked) < 12 * HOUR / 300  # with growing pauses, and not once in 20 seconds
    assert error.message in capsys.readouterr().err
    assert world.environments() == []


def test_want_of_capacity_is_waited_for_until_the_deadline(tmp_path):
    problem = Problem(8, "There is no more capacity in the zone")
    world = World(tmp_path, lambda number, age: ("ACCEPTED", "") if age < 600 else problem, deadline_hours=6)
    assert world.run() == 75
    assert world.hours >= 6
    assert world.service.there is None


def test_a_queue_of_days_is_one_request(tmp_path):
    ways = lambda number, age: ("WAITING_FOR_RESOURCES", "") if age < 100 * HOUR else READY
    world = World(tmp_path, ways, limits=SLOW, job=lambda number, age: {"state": "ended", "outcome": "finished"})
    assert world.run() == 0
    assert len(world.service.asked) == 1
    assert world.service.wishes[0].valid_until_seconds == 168 * HOUR
    assert world.service.there is None


@pytest.mark.parametrize("error", [DENIED, WRONG])
def test_a_refusal_that_no_repetition_changes_ends_the_run(tmp_path, error):
    world = World(tmp_path, lambda number, age: READY, refuse=lambda number: error)
    assert world.run() == 1
    assert len(world.service.asked) == 1
    assert world.environments() == []


def test_a_refusal_that_nobody_knows_is_counted(tmp_path):
    world = World(tmp_path, lambda number, age: READY, refuse=lambda number: ODD)
    assert world.run() == 1
    assert len(world.service.asked) == 6


def test_an_incarnation_is_used_again_while_no_slice_has_had_it(tmp_path):
    refuse = lambda number: QUOTA if number < 5 else None
    world = World(
        tmp_path, lambda number, age: READY, refuse, job=lambda number, age: {"state": "ended", "outcome": "finished"}
    )
    assert world.run() == 0
    assert len(world.service.asked) == 5
    assert len({wish.metadata["pod-incarnation"] for wish in world.service.asked}) == 1
    (wish,) = world.service.wishes
    assert world.plane.read_control().value.incarnation == wish.metadata["pod-incarnation"]


def test_provisioning_without_end_is_asked_for_anew_and_given_up(tmp_path):
    world = World(tmp_path, lambda number, age: ("PROVISIONING", ""))
    assert world.run() == 1
    assert len(world.service.wishes) == 6
    assert 6 <= world.hours < 7  # an hour each


def test_slices_on_which_nothing_ever_runs_are_given_up(tmp_path):
    """The bill of machines that cannot even read the bucket is three times half an hour."""
    world = World(tmp_path, lambda number, age: READY)
    assert world.run() == 1
    assert len(world.service.wishes) == 3
    assert 1.5 <= world.hours < 1.75
    assert world.service.there is None


def test_progress_starts_the_count_of_sick_slices_anew(tmp_path):
    sick = lambda number, age: {
        "state": "ended" if age > 60 else "running",
        "outcome": "sick_slice" if age > 60 else "",
        "progress": 100 * min(number, 8),
    }
    world = World(tmp_path, lambda number, age: READY, job=sick)
    assert world.run() == 1
    assert (
        len(world.service.wishes) == 8 + 3 - 1 + 1 - 1
    )  # the eighth has the last step; it and the next two are in a row


def test_preemptions_are_never_counted(tmp_path):
    """Every slice is taken back an hour after it was ready."""
    ways = lambda number, age: READY if age < HOUR else ("SUSPENDED", "")
    world = World(tmp_path, ways, job=lambda number, age: {"state": "running"}, deadline_hours=12, limits=SLOW)
    assert world.run() == 75
    assert world.hours >= 12
    assert len(world.service.wishes) > 8
    assert len({wish.metadata["pod-incarnation"] for wish in world.service.wishes}) == len(world.service.wishes)
    history = world.plane.read_json("slices.json").value
    assert len(history) == len(world.service.wishes)
    assert all(entry["gone"] - entry["ready"] >= HOUR for entry in history[:-1])


def test_a_keeper_that_falls_silent_costs_its_slice(tmp_path):
    """What it last wrote does not change any more."""
    world = World(tmp_path, lambda number, age: READY)
    frozen = {}

    def job(number, age):
        if number == 1:
            return frozen.setdefault("said", {"state": "running"}) if age < 60 else None
        return {"state": "ended", "outcome": "finished"}

    world.job = job
    assert world.run() == 0
    assert len(world.service.wishes) == 2
    assert world.hours < (60 + 300 + 120) / HOUR


def test_the_deadline_lets_a_job_save_and_no_longer(tmp_path):
    world = World(tmp_path, lambda number, age: READY, job=lambda number, age: {"state": "running"}, deadline_hours=2)
    assert world.run() == 75
    assert 2 * HOUR + 720 <= world.clock.time - 1e9 <= 2 * HOUR + 720 + 60  # 10 minutes to save, 2 for the others
    assert world.service.there is None


@pytest.mark.parametrize(("outcome", "keep", "there"), [("finished", True, True), ("deadline", True, False)])
def test_a_kept_slice(tmp_path, outcome, keep, there):
    world = World(
        tmp_path, lambda number, age: READY, job=lambda number, age: {"state": "ended", "outcome": outcome}, keep=keep
    )
    world.run()
    assert (world.service.there is not None) == there
    assert world.plane.read_control().value.keep == keep


def test_an_answer_after_a_night_deletes_nothing_of_another_supervisor(tmp_path, monkeypatch):
    def job(number, age):
        if age > HOUR:
            world.service.there = None  # somebody deletes it in the console
        return {"state": "running"}

    def answer():
        RunLock(world.plane.bucket, world.plane.name(), "other", 60, world.clock).take(force=True)
        world.service.there = world.service.wishes[0]
        return True

    world = World(tmp_path, lambda number, age: READY, job=job)
    monkeypatch.setattr(messages, "user_wants_another_slice", answer)
    with pytest.raises(Lost, match="on other"):
        world.run()
    assert world.service.there is not None


def test_control_is_in_the_bucket_before_each_request(tmp_path):
    world = World(tmp_path, lambda number, age: READY if age < HOUR else ("SUSPENDED", ""), deadline_hours=5)
    world.job = lambda number, age: {"state": "running"}
    create, seen = world.service.create, []

    def checked(wish):
        wanted = world.plane.read_control().value
        seen.append(wanted.incarnation == wish.metadata["pod-incarnation"])
        assert wanted.job.environment in {name.rsplit("/", 1)[-1] for name in world.environments()}
        create(wish)

    world.service.create = checked
    world.run()
    assert len(seen) >= 4
    assert all(seen)
    assert world.environments() == []
