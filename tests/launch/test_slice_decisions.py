"""What follows from what is seen of a slice and its job: the tables of docs/pods.md, case by case."""

import ast
from pathlib import Path

import pytest
from cloud.real_gcloud import find_gcloud
from pod.options import Limits
from pod.services.service import Node, Problem, QueuedResource
from pod.slices import slice_decisions as decisions
from pod.slices.slice_decisions import (
    ASK,
    CAPACITY,
    DENIED,
    END,
    EXPIRED,
    INVALID,
    LOGIN,
    OTHER,
    PASSING,
    QUOTA,
    REPLACE,
    STOP,
    WAIT,
    WATCH,
    JobSeen,
    SliceSeen,
    Wanted,
)

LIMITS = Limits()
SHORT, LONG = 1.0, LIMITS.provision_seconds + 1


def queued(state: str, initiator: str = "", problem: Problem | None = None) -> QueuedResource:
    return QueuedResource(name="t", state=state, initiator=initiator, problem=problem, node="t")


def seen(resource=None, node=None, *, known=True, asked=False, seconds=SHORT, stale=False) -> SliceSeen:
    return SliceSeen(resource, node, known, asked, seconds, stale)


# Every value of QueuedResourceState.State, young and old, and what follows where the service or nobody is named.
QUEUED_STATES = {
    "STATE_UNSPECIFIED": (WAIT, REPLACE),
    "CREATING": (WAIT, WAIT),
    "ACCEPTED": (WAIT, WAIT),
    "WAITING_FOR_RESOURCES": (WAIT, WAIT),
    "PROVISIONING": (WAIT, REPLACE),
    "FAILED": (REPLACE, REPLACE),
    "DELETING": (WAIT, WAIT),
    "ACTIVE": (WAIT, REPLACE),  # without its machines
    "SUSPENDING": (REPLACE, REPLACE),
    "SUSPENDED": (REPLACE, REPLACE),
    "A_STATE_OF_NEXT_YEAR": (WAIT, REPLACE),
}

# Every value of Node.State, below a queued resource that is ACTIVE.
NODE_STATES = {
    "STATE_UNSPECIFIED": (WAIT, REPLACE),
    "CREATING": (WAIT, REPLACE),
    "READY": (WATCH, WATCH),
    "RESTARTING": (WAIT, REPLACE),
    "REIMAGING": (WAIT, REPLACE),
    "DELETING": (WAIT, REPLACE),
    "REPAIRING": (WAIT, REPLACE),
    "STOPPED": (REPLACE, REPLACE),
    "STOPPING": (REPLACE, REPLACE),
    "STARTING": (WAIT, REPLACE),
    "PREEMPTED": (REPLACE, REPLACE),
    "TERMINATED": (REPLACE, REPLACE),
    "HIDING": (REPLACE, REPLACE),
    "HIDDEN": (REPLACE, REPLACE),
    "UNHIDING": (WAIT, REPLACE),
    "UNKNOWN": (REPLACE, REPLACE),
    "A_STATE_OF_NEXT_YEAR": (WAIT, REPLACE),
}


@pytest.mark.parametrize("initiator", ["", "SERVICE"])
@pytest.mark.parametrize("state", QUEUED_STATES)
def test_states_of_the_queued_resource(state, initiator):
    for seconds, action in zip((SHORT, LONG), QUEUED_STATES[state], strict=True):
        decision = decisions.decide_slice(seen(queued(state, initiator), seconds=seconds), LIMITS)
        assert decision.action == action
        assert state in decision.reason


@pytest.mark.parametrize("state", NODE_STATES)
def test_states_of_the_node(state):
    for seconds, action in zip((SHORT, LONG), NODE_STATES[state], strict=True):
        node = Node(name="t", state=state, health_description="a fan", symptoms="LOW_MEMORY (worker 3)")
        decision = decisions.decide_slice(seen(queued("ACTIVE"), node, seconds=seconds), LIMITS)
        assert decision.action == action
        assert "a fan" in decision.reason
        assert "LOW_MEMORY (worker 3)" in decision.reason


def gclouds_values(message: str) -> set[str]:
    """The values of a message's StateValueValuesEnum in gcloud's own message classes, made from the REST reference."""
    library = Path(find_gcloud()).resolve().parent.parent / "lib" / "googlecloudsdk" / "generated_clients"
    tree = ast.parse((library / "apis" / "tpu" / "v2" / "tpu_v2_messages.py").read_text())
    owner = next(item for item in tree.body if isinstance(item, ast.ClassDef) and item.name == message)
    enum = next(item for item in owner.body if isinstance(item, ast.ClassDef) and item.name == "StateValueValuesEnum")
    return {item.targets[0].id for item in enum.body if isinstance(item, ast.Assign)}


def test_the_tables_name_every_state_that_the_service_has():
    assert gclouds_values("QueuedResourceState") == set(QUEUED_STATES) - {"A_STATE_OF_NEXT_YEAR"}
    assert gclouds_values("Node") == set(NODE_STATES) - {"A_STATE_OF_NEXT_YEAR"}


@pytest.mark.parametrize("state", ["SUSPENDING", "SUSPENDED"])
def test_what_its_user_takes_away_is_not_asked_for_again(state):
    decision = decisions.decide_slice(seen(queued(state, "USER")), LIMITS)
    assert (decision.action, decision.exit_code) == (STOP, 75)
    # Who starts a run whose slice was taken away before wants another.
    assert decisions.decide_slice(seen(queued(state, "USER"), known=False), LIMITS).action == REPLACE


def test_a_slice_that_is_not_there():
    assert decisions.decide_slice(seen(known=False), LIMITS).action == ASK
    assert decisions.decide_slice(seen(known=False, asked=True), LIMITS).action == WAIT
    assert decisions.decide_slice(seen(known=False, asked=True, seconds=LONG), LIMITS).action == ASK
    assert decisions.decide_slice(seen(known=True), LIMITS).action == STOP


def test_the_slice_of_an_earlier_request_is_replaced():
    assert decisions.decide_slice(seen(queued("ACTIVE"), Node("t", "READY"), stale=True), LIMITS).action == REPLACE
    assert decisions.decide_slice(seen(queued("WAITING_FOR_RESOURCES"), stale=True), LIMITS).action == REPLACE
    assert decisions.decide_slice(seen(queued("DELETING"), stale=True), LIMITS).action == WAIT


# The service's own words where they are known: code of failedData, status of an HTTP error, message, what it means.
REASONS = [
    (8, "", "Quota limit 'TPUV3sPreemptiblePodPerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0", QUOTA),
    (8, "", "There is no more capacity in the zone europe-west4-a", CAPACITY),
    (0, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'TPU API requests' per minute", QUOTA),
    (0, "RESOURCE_EXHAUSTED", "Too many requests", CAPACITY),
    (7, "", "The caller does not have permission", DENIED),
    (0, "PERMISSION_DENIED", "Cloud TPU API has not been used in project 1 before or it is disabled.", DENIED),
    (16, "", "Request had invalid authentication credentials", LOGIN),
    (0, "UNAUTHENTICATED", "Request had invalid authentication credentials", LOGIN),
    (3, "", "Invalid value for field runtime_version", INVALID),
    (0, "INVALID_ARGUMENT", "Quota project is malformed", INVALID),
    (0, "NOT_FOUND", "The network default was not found", INVALID),
    (5, "", "Reservation r was not found", INVALID),
    (4, "", "The request could not be fulfilled until its time", EXPIRED),
    (9, "", "The valid-until time has expired", EXPIRED),
    (14, "", "try again", PASSING),
    (0, "UNAVAILABLE", "nothing came for 30 seconds", PASSING),
    (0, "INTERNAL", "an internal error has occurred", PASSING),
    (13, "", "an internal error has occurred", OTHER),
    (0, "", "no reason given", OTHER),
]


@pytest.mark.parametrize(("code", "status", "message", "cause"), REASONS)
def test_what_the_services_words_mean(code, status, message, cause):
    assert decisions.cause_of(code, status, message) == cause


@pytest.mark.parametrize(
    ("code", "message", "action", "failed"),
    [
        (8, "Quota limit exceeded", REPLACE, False),
        (8, "no more capacity", REPLACE, False),
        (4, "expired", REPLACE, False),
        (14, "try again", REPLACE, False),
        (13, "internal", REPLACE, True),
        (3, "the runtime version is unknown", END, False),
        (7, "no permission", END, False),
    ],
)
def test_a_request_that_failed(code, message, action, failed):
    """Want of capacity or quota never ends the run; what no repetition changes does at once."""
    decision = decisions.decide_slice(seen(queued("FAILED", problem=Problem(code, message))), LIMITS)
    assert (decision.action, decision.failed) == (action, failed)
    assert message in decision.reason
    assert decision.exit_code == (1 if action == END else 0)


def test_a_request_that_failed_without_a_reason_counts():
    decision = decisions.decide_slice(seen(queued("FAILED")), LIMITS)
    assert (decision.action, decision.failed) == (REPLACE, True)


@pytest.mark.parametrize(
    ("cause", "action", "failed"),
    [
        (QUOTA, ASK, False),
        (CAPACITY, ASK, False),
        (EXPIRED, ASK, False),
        (PASSING, ASK, False),
        (OTHER, ASK, True),
        (LOGIN, WAIT, False),
        (DENIED, END, False),
        (INVALID, END, False),
    ],
)
def test_a_request_that_is_refused(cause, action, failed):
    decision = decisions.decide_refused(cause, "words")
    assert (decision.action, decision.failed) == (action, failed)
    assert "words" in decision.reason


# How a job that has ended ends the run: the outcome, the launcher's exit code, and whether a slice with --keep stays.
OUTCOMES = {
    "finished": (0, True),
    "stopped": (75, True),
    "deadline": (75, False),
    "configuration": (78, True),
    "data": (65, True),
    "training": (70, True),
    "memory": (70, True),
    "gave_up": (1, True),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_end_of_a_job_is_the_end_of_the_run(outcome):
    code, may_stay = OUTCOMES[outcome]
    job = JobSeen(state="ended", outcome=outcome, message="words")
    decision = decisions.decide_job(job, Wanted(), LIMITS)
    assert (decision.action, decision.exit_code, decision.leave) == (END, code, outcome == "stopped")
    assert "words" in decision.reason
    assert decisions.decide_job(job, Wanted(keep=True), LIMITS).leave == may_stay
    # Worker 0 may have deleted the slice by itself: that is the job's end, not its user's wish.
    assert decisions.decide(seen(), job, Wanted(), LIMITS).action == END


def test_a_sick_slice_is_replaced_and_counted():
    decision = decisions.decide_job(JobSeen(state="ended", outcome="sick_slice", message="vfio"), Wanted(), LIMITS)
    assert (decision.action, decision.sick) == (REPLACE, True)
    assert "vfio" in decision.reason


@pytest.mark.parametrize(
    ("job", "action"),
    [
        (JobSeen(ready_seconds=1, silent_seconds=1), WATCH),
        (JobSeen(ready_seconds=LIMITS.setup_seconds + 1, silent_seconds=LIMITS.setup_seconds + 1), REPLACE),
        (JobSeen(state="setup", ready_seconds=1), WATCH),
        (JobSeen(state="setup", ready_seconds=LIMITS.setup_seconds + 1), REPLACE),
        (JobSeen(state="setup", silent_seconds=LIMITS.heartbeat_seconds + 1), REPLACE),
        (JobSeen(state="running", ready_seconds=1e6), WATCH),
        (JobSeen(state="running", silent_seconds=LIMITS.heartbeat_seconds + 1), REPLACE),
    ],
)
def test_a_ready_slice_does_not_stay_without_a_job(job, action):
    decision = decisions.decide(seen(queued("ACTIVE"), Node("t", "READY")), job, Wanted(), LIMITS)
    assert decision.action == action
    assert decision.sick == (action == REPLACE)


@pytest.mark.parametrize(
    ("resource", "node", "job", "over", "action"),
    [
        (None, None, JobSeen(), 0, END),
        (queued("WAITING_FOR_RESOURCES"), None, JobSeen(), 0, END),
        (queued("ACTIVE"), Node("t", "READY"), JobSeen(), 0, END),
        (queued("ACTIVE"), Node("t", "READY"), JobSeen(state="running"), 0, WATCH),
        (queued("ACTIVE"), Node("t", "READY"), JobSeen(state="running"), LIMITS.stop_seconds, WATCH),
        (queued("ACTIVE"), Node("t", "READY"), JobSeen(state="running"), 1e5, END),
        (queued("ACTIVE"), Node("t", "PREEMPTED"), JobSeen(state="running"), 0, END),
    ],
)
def test_nothing_is_asked_for_after_the_deadline(resource, node, job, over, action):
    decision = decisions.decide(seen(resource, node, known=resource is not None), job, Wanted(over=over), LIMITS)
    assert decision.action == action
    if action == END:
        assert (decision.exit_code, decision.leave) == (75, False)


def test_a_stop_that_finds_nothing_running_ends_the_run():
    decision = decisions.decide(seen(queued("PROVISIONING")), JobSeen(), Wanted(stop=True), LIMITS)
    assert (decision.action, decision.exit_code) == (END, 75)
    running = decisions.decide(
        seen(queued("ACTIVE"), Node("t", "READY")), JobSeen(state="running"), Wanted(stop=True), LIMITS
    )
    assert running.action == WATCH  # the keeper has it save
    silent = JobSeen(state="running", silent_seconds=1e6)
    dead = decisions.decide(seen(queued("ACTIVE"), Node("t", "READY")), silent, Wanted(stop=True), LIMITS)
    assert (dead.action, dead.leave) == (END, False)  # no other slice for a job that is to stop


def test_a_sick_slice_that_worker_0_gave_back_is_replaced():
    job = JobSeen(state="ended", outcome="sick_slice", message="vfio")
    decision = decisions.decide(seen(), job, Wanted(), LIMITS)
    assert (decision.action, decision.sick) == (REPLACE, True)
