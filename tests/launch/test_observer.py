"""What a supervisor makes of what it sees over time: for how long a job has not run on a slice that is ready."""

from dataclasses import dataclass

from pod.plane.control import Control, Job, JobState
from pod.plane.control_plane import Stored
from pod.run import Run
from pod.services.service import Node, QueuedResource
from pod.slices.accelerators import find_accelerator
from pod.slices.observer import Observer

WANTED = Control("t", "word", "run", Job("id", "key", (), "code"), "projects/p/locations/z/queuedResources/t", 2)
RUN = Run("t", "gs://b/r", "gs://b/r/pod", (), "key", "")


@dataclass
class World:
    """The time, the slice and the job, as a test sets them."""

    seconds: float = 0.0
    state: str = ""
    node_state: str = "READY"
    written: float = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def queued_resource(self, *_):
        metadata = {"pod-incarnation": "word", "pod-control": RUN.control}
        return QueuedResource("t", "ACTIVE", node="t", accelerator_type="v5p-16", metadata=metadata)

    def node(self, *_):
        return Node("t", self.node_state)

    def read_job(self):
        if not self.state:
            return None
        return Stored(JobState("word", "id", attempt=1, state=self.state, updated=self.written), 1)

    def read_control(self):
        return Stored(WANTED, 1)


def test_a_restart_has_as_long_as_the_first_start():
    world = World()
    observer = Observer(RUN, find_accelerator("v5p-16"), world, world, world, 100.0)
    seen = []
    for seconds, state in (
        (0, ""),
        (100, "setup"),
        (200, "running"),
        (9000, "running"),
        (9010, "setup"),
        (9300, "setup"),
    ):
        world.seconds, world.state = seconds, state
        seen.append(observer.look(WANTED, "v2", published=True).job.ready_seconds)
    assert seen == [0, 100, 0, 0, 10, 300]


def test_a_slice_that_is_ready_again_begins_anew():
    world = World(state="setup")
    observer = Observer(RUN, find_accelerator("v5p-16"), world, world, world, 100.0)
    seen = []
    for seconds, node_state in ((0, "READY"), (500, "READY"), (600, "REPAIRING"), (900, "READY"), (950, "READY")):
        world.seconds, world.node_state = seconds, node_state
        look = observer.look(WANTED, "v2", published=True)
        seen.append(look.job.ready_seconds)
    assert seen == [0, 500, 0, 0, 50]


def test_a_disturbed_bucket_is_not_a_silent_keeper():
    world = World(state="running")
    observer = Observer(RUN, find_accelerator("v5p-16"), world, world, world, 20.0)
    seen = []
    # Between 40 and 1000 seconds nothing could be seen: what is seen then is what the keeper wrote before.
    for seconds, written in ((0, 1), (20, 2), (40, 2), (1000, 2), (1020, 2), (1040, 3)):
        world.seconds, world.written = seconds, written
        seen.append(observer.look(WANTED, "v2", published=True).job.silent_seconds)
    assert seen == [0, 0, 20, 120, 140, 0]


def test_what_was_not_seen_is_no_time_without_a_job():
    world = World(state="running")
    observer = Observer(RUN, find_accelerator("v5p-16"), world, world, world, 20.0)
    seen = []
    # The laptop was offline for an hour in which the job ran, and comes back in the moment of a restart.
    for seconds, state in ((0, "running"), (20, "running"), (3620, "setup"), (3640, "setup"), (3660, "running")):
        world.seconds, world.state = seconds, state
        seen.append(observer.look(WANTED, "v2", published=True).job.ready_seconds)
    assert seen == [0, 0, 100, 120, 0]
