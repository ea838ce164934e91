"""What the keeper does with a decision, and what it makes of signs of life, with time that passes at once."""

import dataclasses

from pod.job.keeper import Keeper
from pod.plane.control import Bounds, Control, Job, JobState, Supervisor, WorkerReport
from pod.plane.control_plane import Stored
from pod.services.bucket import ABSENT, Conflict

BOUNDS = Bounds(poll_seconds=20, lock_seconds=60, heartbeat_seconds=300)
WANTED = Control(
    "t", "word", "run", Job("id", "key", (), "code", environment="environment-1"), "queued", 2, idle_seconds=3600,
    bounds=BOUNDS,
)  # fmt: skip
READY = WorkerReport("ready", job="id", environment="environment-1")
ENDED = JobState("word", "id", attempt=1, state="ended", outcome="finished", message="finished", since=1000.0)


class World:
    """The time, the bucket, and the service, as a test sets them."""

    def __init__(self):
        self.seconds = 1000.0
        self.reports = {1: READY}
        self.written = []
        self.deleted = []
        self.asked = []
        self.message = ""
        self.overtaken = False
        self.bucket = self

    def now(self) -> float:
        return self.seconds

    monotonic = now

    def workers(self, incarnation):
        assert incarnation == "word"
        return self.reports

    def name(self, name):
        return f"pod/{name}"

    def delete(self, name):
        self.deleted.append(name)

    def write_job(self, job, generation):
        if self.overtaken:
            raise Conflict
        self.written.append((job, generation))

    def attempt(self, queued_resource, pause):
        assert self.written[-1][0].state == "ended", "first the job's end is written down"
        self.asked.append(queued_resource)
        self.message = "the slice is being deleted"

    def keeper(self):
        return Keeper(self, "word", self, self)


def test_the_environment_goes_when_all_have_it():
    world = World()
    keeper = world.keeper()
    world.reports = {1: dataclasses.replace(READY, environment="")}
    keeper.step(WANTED, None, READY)
    assert world.deleted == []
    world.reports = {1: READY}
    for _ in range(3):
        job = keeper.step(WANTED, None, READY)
    assert world.deleted == ["pod/environment-1"]
    assert (job.state, job.attempt) == ("running", 1)
    assert world.written[0][1] == ABSENT


def test_who_was_overtaken_does_nothing():
    world = World()
    world.overtaken = True
    assert world.keeper().step(WANTED, Stored(ENDED, 7), READY) is None
    assert (world.asked, world.deleted) == ([], [])


def test_a_supervisor_whose_clock_is_wrong_is_alive_as_long_as_it_says_something():
    world = World()
    keeper = world.keeper()
    stored = Stored(ENDED, 7)
    for look in range(100):
        world.seconds += 20
        seen = 9e9 + look // 5 if look < 50 else 9e9 + 9  # days ahead; after 1000 seconds it falls silent
        keeper.step(dataclasses.replace(WANTED, supervisor=Supervisor("me", seen)), stored, READY)
        assert bool(world.asked) is (look >= 45 + 18), "six renewals of the lock are 360 seconds"
        if world.asked:
            break
    assert world.asked == ["queued"]
    job = keeper.step(WANTED, stored, READY)
    assert job.message == "finished\nthe slice is being deleted"


def test_without_a_supervisor_nobody_is_waited_for():
    world = World()
    world.keeper().step(WANTED, Stored(ENDED, 7), READY)
    assert world.asked == ["queued"]
    world.asked.clear()
    world.keeper().step(dataclasses.replace(WANTED, keep=True), Stored(ENDED, 7), READY)
    assert world.asked == []
