"""The control plane's objects, in a bucket of fake-gcs-server."""

import dataclasses

import pytest
from cloud.services import BUCKET, Services
from pod.plane.control import Bounds, Control, Job, JobState, Supervisor, WorkerReport
from pod.plane.control_plane import ControlError, ControlPlane
from pod.services.bucket import ABSENT, Bucket, Conflict
from pod.services.endpoints import find_endpoints
from user import User

# An argument may hold bytes that are no UTF-8; Python has them as surrogates.
WANTED = Control(
    run="b7",
    incarnation="word",
    want="run",
    job=Job(
        "id", "key", ("--config=ü", "--a=\udcff"), "code-1.tar.gz", "environment-2", {"K": "projects/p/secrets/s"}, "b"
    ),
    queued_resource="projects/p/locations/z/queuedResources/b7",
    workers=4,
    deadline=1e9,
    keep=True,
    bounds=Bounds(poll_seconds=0.5),
    logs=(1, 3),
    supervisor=Supervisor("me", 5.0),
)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture
def plane(services, request):
    endpoints = find_endpoints(services.environment)
    return ControlPlane(Bucket(BUCKET, User(), endpoints, patience=5), f"runs/{request.node.name}/pod")


def test_what_is_wanted_comes_back_as_it_was(plane):
    assert plane.read_control() is None
    assert plane.update_control(lambda _: WANTED) == WANTED
    assert plane.read_control().value == WANTED


def test_a_change_begins_anew_when_somebody_else_was_faster(plane):
    plane.update_control(lambda _: WANTED)
    seen = []

    def stop(there):
        if not seen:  # another command writes between this one's look and its writing
            plane.update_control(lambda other: dataclasses.replace(other, deadline=7.0))
        seen.append(there.deadline)
        return dataclasses.replace(there, want="stop")

    assert plane.update_control(stop) == dataclasses.replace(WANTED, want="stop", deadline=7.0)
    assert seen == [1e9, 7.0]
    assert plane.read_control().value == dataclasses.replace(WANTED, want="stop", deadline=7.0)


def test_nothing_is_written_where_nothing_changes(plane):
    plane.update_control(lambda _: WANTED)
    before = plane.read_control().generation
    plane.update_control(lambda there: there)
    plane.update_control(lambda _: None)
    assert plane.read_control().generation == before


def test_a_job_is_written_by_one_keeper_only(plane):
    job = JobState("word", "id", attempt=2, state="running", message="two\nlines")
    plane.write_job(job, ABSENT)
    stored = plane.read_job()
    assert stored.value == job
    plane.write_job(dataclasses.replace(job, attempt=3), stored.generation)
    with pytest.raises(Conflict):
        plane.write_job(dataclasses.replace(job, attempt=4), stored.generation)
    assert plane.read_job().value.attempt == 3


def test_one_request_reads_all_reports(plane, services):
    reports = {
        0: WorkerReport("running", 1, heartbeat=1.5),
        11: WorkerReport("ended", 1, 75, 3.5, "preempted", "ü" * 5000 + "at last"),  # too long for an object's metadata
        2: WorkerReport("failed", message='quotes " and \n lines'),
    }
    for worker, report in reports.items():
        plane.report("word", worker, report)
    plane.report("another", 5, reports[0])
    plane.write_log("word", 1, 0, 0, b"log")
    services.server.calls.clear()
    found = plane.workers("word")
    assert len(services.server.calls) == 1
    assert (found[0], found[2]) == (reports[0], reports[2])
    assert found[11] == dataclasses.replace(reports[11], message="ü" * 293 + "at last")
    assert sorted(found) == [0, 2, 11]


def test_log_pieces_are_in_order(plane):
    names = [plane.log_name("word", 1, 0, piece) for piece in (0, 9, 10, 100)]
    assert names == sorted(names)
    plane.write_log("word", 1, 0, 10, b"\xff\n")
    assert plane.read_log("word", 1, 0, 10) == b"\xff\n"
    assert plane.read_log("word", 1, 0, 11) is None


def test_a_damaged_object_is_named(plane, services):
    name = plane.name("control.json")
    for content, words in (
        (b"{", "is not JSON"),
        (b"[]", "cannot be understood"),
        (b'{"format": 1}', "cannot be understood"),
    ):
        services.storage.write(BUCKET, name, content)
        with pytest.raises(ControlError, match=rf"gs://{BUCKET}/{name} .*{words}"):
            plane.read_control()


def test_another_format_is_refused_and_further_keys_are_not(plane):
    plain = dataclasses.asdict(JobState("word", "id"))
    plane.write_json("job.json", plain | {"later": 1})
    assert plane.read_job().value == JobState("word", "id")
    plane.write_json("job.json", plain | {"format": 2})
    with pytest.raises(ControlError, match="its format is 2"):
        plane.read_job()
