"""How `up` begins, from what exists: joins, goes on, or starts anew; and what it asks the service for."""

import dataclasses
import itertools
from pathlib import Path

import pytest
from pod import options
from pod.errors import Refused
from pod.plane.control import Control, Job, JobState, Supervisor
from pod.plane.delivery import Material
from pod.run import Run
from pod.services.service import QueuedResource
from pod.slices import accelerators, joining, slice_request
from pod.slices.joining import Existing

NOW = 1_000_000.0
RUN = Run("t", "gs://b/r", "gs://b/r/pod", ("--config=c.py",), "key", "")
MATERIAL = Material(b"", "code-new.tar.gz", {}, {"A": "projects/p/secrets/s"}, "#!/bin/sh\n")
OLD = Control(
    run="t",
    incarnation="old",
    want="run",
    job=Job("job", "key", RUN.arguments, "code-old.tar.gz", environment="environment-old"),
    queued_resource="q",
    workers=4,
    deadline=NOW + 100,
)
RUNS = JobState(incarnation="old", job="job", attempt=3, state="running", progress=70)


def begin(existing, **asked):
    identifiers = (f"id-{number}" for number in itertools.count(1))
    return joining.begin(
        existing,
        RUN,
        dataclasses.replace(options.Options(deadline_hours=2), **asked),
        MATERIAL,
        queued_resource="projects/p/locations/z/queuedResources/t",
        workers=4,
        supervisor=Supervisor("me", NOW),
        make_id=lambda: next(identifiers),
    )


def ended(outcome):
    return dataclasses.replace(RUNS, state="ended", outcome=outcome)


STOPPED = dataclasses.replace(OLD, want="stop")
LATE = dataclasses.replace(OLD, deadline=NOW - 1)

# What is there; whether it is joined, whether it is the same job as before, and whether it keeps its deadline.
CASES = {
    "nothing": (Existing(None, None, False), False, False, False),
    "a job that runs": (Existing(OLD, RUNS, True, "old"), True, True, True),
    "a slice that waits": (Existing(OLD, None, True, "old"), True, True, True),
    "a slice that does not say which it is": (Existing(OLD, RUNS, True, ""), True, True, True),
    "a job whose slice is gone": (Existing(OLD, RUNS, False), False, True, True),
    "a job whose slice is sick": (Existing(OLD, ended("sick_slice"), True, "old"), True, True, True),
    "a job that was stopped, and its slice": (Existing(STOPPED, ended("stopped"), True, "old"), False, False, True),
    "a job that was stopped, without a slice": (Existing(STOPPED, ended("stopped"), False), False, False, True),
    "a job that was stopped by its deadline": (Existing(LATE, ended("deadline"), False), False, False, False),
    "a finished job": (Existing(OLD, ended("finished"), False), False, False, False),
    "a finished job whose slice was kept": (Existing(OLD, ended("finished"), True, "old"), False, False, False),
    "a job that ended with an error": (Existing(OLD, ended("configuration"), True, "old"), False, False, False),
    "a job that never started in time": (Existing(LATE, None, False), False, False, False),
    "the job of another start": (Existing(OLD, dataclasses.replace(RUNS, job="before"), True, "old"), True, True, True),
}


@pytest.mark.parametrize("case", CASES)
def test_how_a_run_begins(case):
    existing, joins, same_job, same_deadline = CASES[case]
    start = begin(existing)
    assert start.joins == joins
    assert (start.control.job.id == "job") == same_job
    assert start.control.deadline == (OLD.deadline if same_deadline else NOW + 2 * 3600)
    assert start.control.want == "run"
    if joins:
        assert start.control.job == OLD.job  # not touched: it may run
    else:
        assert start.control.job.code == "code-new.tar.gz"
        assert start.control.job.secrets == MATERIAL.secrets
    # A slice that is there keeps its incarnation, or it would be taken for an older one.
    if existing.has_slice and existing.incarnation:
        assert start.control.incarnation == existing.incarnation


def test_what_was_seen_of_the_job_counts_for_the_next_slice():
    assert begin(Existing(OLD, RUNS, False)).progress == 70
    assert begin(Existing(None, None, False)).progress == -1


@pytest.mark.parametrize("job", [RUNS, dataclasses.replace(RUNS, state="setup"), ended("sick_slice")])
def test_another_job_that_runs_is_not_replaced(job):
    other = dataclasses.replace(OLD, job=dataclasses.replace(OLD.job, key="other"))
    with pytest.raises(Refused, match="another job runs on t, started with other arguments"):
        begin(Existing(other, job, True, "old"))
    assert begin(Existing(other, job, False)).control.job.key == "key"
    assert begin(Existing(other, ended("finished"), True, "old")).control.job.key == "key"


def test_options_of_this_call_are_those_of_the_run():
    control = begin(Existing(OLD, RUNS, True, "old"), keep=True, max_restarts=3).control
    assert (control.keep, control.max_restarts) == (True, 3)


V5P = accelerators.find_accelerator("v5p-16")


def request(seconds_left=7200.4, **asked):
    given = dataclasses.replace(options.Options(project="p", zone="z-1-a", provisioning="spot"), **asked)
    return slice_request.make_request(
        RUN, given, V5P, incarnation="w", code_name="code", startup_script="#!", seconds_left=seconds_left
    )


def test_no_request_outlives_its_run():
    assert request().body()["queueingPolicy"] == {"validUntilDuration": "7200s"}
    assert request(valid_until_hours=1).body()["queueingPolicy"] == {"validUntilDuration": "3600s"}
    assert request(valid_until_hours=9).body()["queueingPolicy"] == {"validUntilDuration": "7200s"}
    assert request(seconds_left=-5).body()["queueingPolicy"] == {"validUntilDuration": "1s"}


def test_flex_start_is_ended_by_the_service():
    body = request(provisioning="flex-start").body()
    assert (body["provisioningModel"], body["runDuration"]) == ("FLEX_START", {"maxRunDuration": "7200s"})
    assert request(provisioning="flex-start", max_run_hours=1).body()["runDuration"] == {"maxRunDuration": "3600s"}
    assert request(provisioning="flex-start").version == "v2alpha1"
    assert request().version == "v2"


def test_the_slice_says_whose_it_is():
    metadata = request().body()["tpu"]["nodeSpec"][0]["node"]["metadata"]
    assert metadata == {"pod-control": RUN.control, "pod-incarnation": "w", "pod-code": "code", "startup-script": "#!"}


@pytest.mark.parametrize(
    ("metadata", "type", "said"),
    [
        ({"pod-control": RUN.control}, "v5p-16", ""),
        ({}, "v5p-16", ""),  # where the service does not show it
        ({"pod-control": "gs://b/another/pod"}, "v5p-16", "belongs to the run in gs://b/another/pod"),
        ({"startup-script": "theirs"}, "v5p-16", "did not request"),
        ({"pod-control": RUN.control}, "v5p-32", "is a v5p-32, not a v5p-16"),
    ],
)
def test_a_slice_that_is_none_of_the_runs_is_left_alone(metadata, type, said):
    resource = QueuedResource("t", "ACTIVE", accelerator_type=type, metadata=metadata)
    if not said:
        slice_request.check_owner(resource, RUN, V5P)
        return
    with pytest.raises(Refused, match=said):
        slice_request.check_owner(resource, RUN, V5P)


def test_the_file_that_the_machines_start_with_is_a_script():
    script = Path(slice_request.__file__).parents[1].joinpath("startup.sh").read_text()
    assert script.startswith("#!/bin/")
    assert len(script.splitlines()) < 100
