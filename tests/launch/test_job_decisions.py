"""The rules of docs/pods.md about the job, each as a row: what the workers report, and what follows."""

import dataclasses
import random

import pytest
from pod.job import failures
from pod.job.job_decisions import RETRIES, decide, is_forsaken
from pod.job.job_seen import Seen, WorkerSeen
from pod.plane import control
from pod.plane.control import Bounds, Control, Job, JobState, WorkerReport

NOW = 1_000_000.0
BOUNDS = Bounds(
    poll_seconds=10,
    grace_seconds=100,
    stop_seconds=500,
    setup_seconds=1000,
    heartbeat_seconds=300,
    stall_seconds=7000,
    lock_seconds=60,
)
WANTED = Control(
    run="b7",
    incarnation="word",
    want="run",
    job=Job("id", "key", ("--a=b",), "code-1.tar.gz"),
    queued_resource="projects/p/locations/z/queuedResources/b7",
    workers=2,
    deadline=NOW + 10_000,
    max_restarts=5,
    idle_seconds=3600,
    bounds=BOUNDS,
)
JOB = JobState(incarnation="word", job="id", attempt=3, state="running", since=NOW - 50)
SETUP = dataclasses.replace(JOB, state="setup", not_before=0.0)
ENDED = dataclasses.replace(JOB, state="ended", outcome=control.FINISHED, since=NOW - 10)


def ready(attempt: int = 3, **more) -> WorkerReport:
    return WorkerReport(**{"state": "ready", "attempt": attempt, "job": "id", **more})


def running(attempt: int = 3, **more) -> WorkerReport:
    return ready(attempt, **{"state": "running", **more})


def ended(code: int | None, at: float = 10.0, kind: str = "", **more) -> WorkerReport:
    kind = kind or failures.kind_of(code, "")
    return ready(**{"state": "ended", "exit_code": code, "ended_at": at, "kind": kind, "message": "said", **more})


def seen(*reports, **more) -> Seen:
    """Sees workers; a pair is a report and how long it has been silent."""
    workers = [WorkerSeen(*report) if isinstance(report, tuple) else WorkerSeen(report) for report in reports]
    return Seen(now=NOW, workers=tuple(workers), **more)


def wanted(**changes) -> Control:
    return dataclasses.replace(WANTED, **changes)


def job(base: JobState, **changes) -> JobState:
    return dataclasses.replace(base, **changes)


# name, what is wanted, the job, what is seen, what must be in the next state ("delete" for the slice)
ROWS = [
    # Setting up.
    ("nobody has answered", WANTED, None, seen(None, None), {"state": "setup", "attempt": 0}),
    ("one is being set up", WANTED, SETUP, seen(ready(), ready(state="setup")), {"state": "setup", "attempt": 3}),
    ("one is set up for another job", WANTED, SETUP, seen(ready(), ready(job="old")), {"state": "setup"}),
    ("all are ready", WANTED, SETUP, seen(ready(), ended(1)), {"state": "running", "attempt": 4, "ask": ""}),
    ("one still runs the last attempt", WANTED, SETUP, seen(ready(), running()), {"state": "setup", "attempt": 3}),
    ("the pause after a crash", WANTED, job(SETUP, not_before=NOW + 1), seen(ready(), ready()), {"state": "setup"}),
    ("one is about to be taken back", WANTED, SETUP, seen(ready(), ready(notice="preempted")), {"state": "setup"}),
    (
        "one could not be set up",
        WANTED,
        SETUP,
        seen(ready(), ready(state="failed", message="no disk")),
        {"outcome": "sick_slice", "first_worker": 1, "retries": RETRIES},
    ),
    ("one never answers", WANTED, job(SETUP, since=NOW - 1001), seen(ready(), None), {"outcome": "sick_slice"}),
    ("one fell silent", WANTED, SETUP, seen(ready(), (ready(), 301)), {"outcome": "sick_slice", "first_worker": 1}),
    ("one is slow to come up", WANTED, SETUP, seen(ready(), (None, 999)), {"state": "setup"}),
    ("more was tried than is known here", WANTED, SETUP, seen(ready(), ended(1, attempt=7)), {"attempt": 8}),
    ("silent for a moment", WANTED, SETUP, seen(ready(), (ready(), 299)), {"state": "running"}),
    ("stop before the start", wanted(want="stop"), SETUP, seen(None, None), {"outcome": "stopped"}),
    ("deadline before the start", wanted(deadline=NOW), SETUP, seen(ready(), ready()), {"outcome": "deadline"}),
    # Running.
    ("all run", WANTED, JOB, seen(running(), running()), {"state": "running", "ask": "", "attempt": 3}),
    ("one starts late", WANTED, JOB, seen(running(), ready(2)), {"state": "running", "ask": ""}),
    ("one never starts", WANTED, job(JOB, since=NOW - 1001), seen(running(), ready(2)), {"ask": "stop"}),
    (
        "a silent worker, the job goes on",
        WANTED,
        JOB,
        seen(running(), (running(), 9999)),
        {"state": "running", "ask": ""},
    ),
    ("the user stops", wanted(want="stop"), JOB, seen(running(), running()), {"ask": "stop", "reason": "user"}),
    (
        "another job is wanted",
        wanted(job=dataclasses.replace(WANTED.job, id="new")),
        JOB,
        seen(running(), running()),
        {"ask": "stop", "reason": "user", "job": "id"},
    ),
    ("the deadline", wanted(deadline=NOW), JOB, seen(running(), running()), {"ask": "stop", "reason": "deadline"}),
    (
        "a silent log",
        WANTED,
        JOB,
        seen(running(log_silent_seconds=7001), running(log_silent_seconds=7002)),
        {"ask": "stop", "reason": "stall"},
    ),
    (
        "the log of one grows",
        WANTED,
        JOB,
        seen(running(log_silent_seconds=9999), running(log_silent_seconds=3)),
        {"ask": ""},
    ),
    (
        "a silent log, and a machine that fell silent when it was not",
        WANTED,
        JOB,
        seen(running(log_silent_seconds=7001), (running(log_silent_seconds=3), 6999)),
        {"ask": "stop", "reason": "stall"},
    ),
    ("steps of another worker", WANTED, JOB, seen(running(), running(step=5)), {"progress": 5}),
    ("steps of an attempt before", WANTED, JOB, seen(running(), ready(2, step=5)), {"progress": 0}),
    ("one failed a moment ago", WANTED, JOB, seen(ended(1), running()), {"ask": "", "first_end": NOW}),
    (
        "one failed, the other hangs",
        WANTED,
        job(JOB, first_end=NOW - 101),
        seen(ended(1), running()),
        {"ask": "stop", "reason": "grace"},
    ),
    (
        "one finished, the other evaluates",
        WANTED,
        job(JOB, first_end=NOW - 101),
        seen(ended(0), running()),
        {"ask": ""},
    ),
    ("one finished long ago", WANTED, job(JOB, first_end=NOW - 501), seen(ended(0), running()), {"ask": "stop"}),
    (
        "one failed before the other began",
        WANTED,
        JOB,
        seen(ended(1), ended(0, attempt=2)),
        {"state": "running", "first_end": NOW},
    ),
    (
        "the user stops what was asked to end after a failure",
        wanted(want="stop"),
        job(JOB, ask="stop", asked_at=NOW - 101, reason="grace"),
        seen(ended(1), running()),
        {"ask": "stop", "reason": "user", "asked_at": NOW - 101},
    ),
    (
        "asked after a failure, and nothing happens",
        WANTED,
        job(JOB, ask="stop", asked_at=NOW - 101, reason="grace"),
        seen(ended(1), running()),
        {"ask": "kill", "asked_at": NOW},
    ),
    (
        "a long checkpoint",
        wanted(want="stop"),
        job(JOB, ask="stop", asked_at=NOW - 499, reason="user"),
        seen(running(), running()),
        {"ask": "stop"},
    ),
    (
        "a checkpoint that never ends",
        wanted(want="stop"),
        job(JOB, ask="stop", asked_at=NOW - 501, reason="user"),
        seen(running(), running()),
        {"ask": "kill"},
    ),
    (
        "not even SIGKILL",
        WANTED,
        job(JOB, ask="kill", asked_at=NOW - 301, reason="stall"),
        seen(ended(1), running()),
        {"outcome": "sick_slice", "first_worker": 1},
    ),
    # The end of an attempt.
    ("finished", WANTED, JOB, seen(ended(0), ended(0)), {"outcome": "finished", "exit_code": 0}),
    ("configuration", WANTED, JOB, seen(ended(75), ended(78, 9)), {"outcome": "configuration", "exit_code": 78}),
    ("data", WANTED, JOB, seen(ended(65), ended(1, 11)), {"outcome": "data", "exit_code": 65, "first_worker": 0}),
    ("training", WANTED, JOB, seen(ended(70), ended(70, 11)), {"outcome": "training", "exit_code": 70}),
    ("memory", WANTED, JOB, seen(ended(1, kind="memory"), ended(1, 11)), {"outcome": "memory", "exit_code": 70}),
    (
        "saved without being asked",
        WANTED,
        JOB,
        seen(ended(75), ended(75)),
        {"state": "setup", "preemptions": 1, "restarts": 0},
    ),
    (
        "a crash",
        WANTED,
        JOB,
        seen(ended(75), ended(1, 9)),
        {"state": "setup", "restarts": 1, "crashes": 1, "first_worker": 1, "not_before": NOW + 10, "since": NOW},
    ),
    (
        "saved as its machine was told to go, with which another went",
        WANTED,
        JOB,
        seen(ended(75, 5), ended(None)),
        {"state": "setup", "preemptions": 1, "restarts": 0},
    ),
    (
        "a lost process beside an error",
        WANTED,
        JOB,
        seen(ended(None, 5), ended(1)),
        {"first_worker": 1, "exit_code": 1},
    ),
    (
        "a machine that rebooted, whose peers were asked to save",
        WANTED,
        job(JOB, ask="stop", reason="grace"),
        seen(ended(75, 5), ended(None)),
        {"state": "setup", "restarts": 1, "preemptions": 0, "first_worker": 1},
    ),
    ("a lost process", WANTED, JOB, seen(ended(0), ended(None)), {"state": "setup", "restarts": 1, "exit_code": None}),
    (
        "the fourth restart pauses longer",
        WANTED,
        job(JOB, restarts=3),
        seen(ended(1), ended(1)),
        {"not_before": NOW + 80},
    ),
    ("a third crash without a step", WANTED, job(JOB, crashes=2), seen(ended(1), ended(1)), {"outcome": "sick_slice"}),
    (
        "a third crash after a step",
        WANTED,
        job(JOB, crashes=2, restarts=5, progress=7),
        seen(ended(1), ended(1, step=8)),
        {"state": "setup", "crashes": 1, "restarts": 1, "progress": 8},
    ),
    (
        "the same steps again are no progress",
        WANTED,
        job(JOB, crashes=2, progress=7),
        seen(ended(1), ended(1, step=7)),
        {"outcome": "sick_slice"},
    ),
    (
        "too many restarts",
        WANTED,
        job(JOB, restarts=5),
        seen(ended(1), ended(1)),
        {"outcome": "gave_up", "exit_code": 1},
    ),
    ("the last restart", WANTED, job(JOB, restarts=4), seen(ended(1), ended(1)), {"state": "setup", "restarts": 5}),
    ("another crash after no TPU", WANTED, job(JOB, tpu_failures=1), seen(ended(1), ended(1)), {"tpu_failures": 0}),
    ("no TPU, once", WANTED, JOB, seen(ended(71, kind="tpu"), ended(75)), {"state": "setup", "tpu_failures": 1}),
    (
        "no TPU, twice",
        WANTED,
        job(JOB, tpu_failures=1),
        seen(ended(1, kind="tpu"), ended(75)),
        {"outcome": "sick_slice"},
    ),
    (
        "a machine that fell silent",
        WANTED,
        JOB,
        seen(ended(1), (running(), 301)),
        {"outcome": "sick_slice", "first_worker": 1},
    ),
    ("all finished but a dead one", WANTED, JOB, seen(ended(0), (running(), 301)), {"outcome": "sick_slice"}),
    (
        "stopped by the user",
        wanted(want="stop"),
        job(JOB, ask="stop", reason="user"),
        seen(ended(75), ended(None)),
        {"outcome": "stopped", "exit_code": 75},
    ),
    (
        "stopped by the user, and all were faster than the keeper",
        wanted(want="stop"),
        JOB,
        seen(ended(75), ended(75)),
        {"outcome": "stopped", "preemptions": 0},
    ),
    (
        "stopped by the user, who finds it finished",
        wanted(want="stop"),
        job(JOB, ask="stop", reason="user"),
        seen(ended(0), ended(0)),
        {"outcome": "finished"},
    ),
    ("over", wanted(deadline=NOW), job(JOB, reason="deadline"), seen(ended(75), ended(75)), {"outcome": "deadline"}),
    (
        "stalled, though it saved",
        WANTED,
        job(JOB, ask="stop", reason="stall"),
        seen(ended(75), ended(75)),
        {"state": "setup", "restarts": 1, "preemptions": 0},
    ),
    # After the end.
    ("a supervisor takes the slice away", WANTED, ENDED, seen(ended(0), ended(0)), {"delete": False}),
    ("nobody does", WANTED, ENDED, seen(ended(0), ended(0), supervised=False), {"delete": True}),
    (
        "nobody does, but it is to be kept",
        wanted(keep=True),
        ENDED,
        seen(None, None, supervised=False),
        {"delete": False},
    ),
    (
        "kept for too long",
        wanted(keep=True),
        job(ENDED, since=NOW - 3601),
        seen(None, None, supervised=False),
        {"delete": True},
    ),
    ("a supervisor that cannot delete", WANTED, job(ENDED, since=NOW - 3601), seen(None, None), {"delete": True}),
    (
        "stopped, and the slice stays",
        wanted(want="stop"),
        job(ENDED, outcome="stopped"),
        seen(None, None, supervised=False),
        {"delete": False, "state": "ended"},
    ),
    ("wanted again", WANTED, job(ENDED, outcome="stopped"), seen(None, None), {"state": "setup", "outcome": ""}),
    (
        "a new job after the end",
        wanted(job=dataclasses.replace(WANTED.job, id="new")),
        job(ENDED, restarts=4, progress=9),
        seen(None, None),
        {"state": "setup", "job": "new", "attempt": 3, "restarts": 0, "outcome": ""},
    ),
    ("sick, and a supervisor is there", WANTED, job(ENDED, outcome="sick_slice"), seen(None, None), {"state": "ended"}),
    (
        "sick, and nobody is there",
        WANTED,
        job(ENDED, outcome="sick_slice", crashes=3),
        seen(None, None, supervised=False),
        {"state": "setup", "retries": 1, "crashes": 0, "delete": False},
    ),
    (
        "sick too often",
        WANTED,
        job(ENDED, outcome="sick_slice", retries=RETRIES),
        seen(None, None, supervised=False),
        {"state": "ended", "delete": True},
    ),
    # Another slice.
    (
        "replaced",
        wanted(incarnation="next"),
        job(JOB, restarts=2, crashes=2, tpu_failures=1, progress=7, preemptions=4),
        seen(None, None),
        {
            "incarnation": "next",
            "state": "setup",
            "attempt": 3,
            "restarts": 2,
            "crashes": 0,
            "progress": 7,
            "preemptions": 4,
        },
    ),
]


@pytest.mark.parametrize(("want", "state", "now", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_follows(want, state, now, expected):
    decision = decide(want, state, now)
    found = dataclasses.asdict(decision.job) | {"delete": decision.delete}
    assert {name: found[name] for name in expected} == expected


def test_the_end_of_a_job_is_said_in_words():
    decision = decide(WANTED, JOB, seen(ended(78), ended(75, 11)))
    assert "the configuration cannot work" in decision.job.message
    assert decision.job.message.endswith("Worker 0 said:\nsaid")


@pytest.mark.parametrize(
    ("now", "silent", "is_running", "forsaken"),
    [
        (NOW, 3599, False, False),
        (NOW, 3601, False, True),
        (NOW, 3601, True, False),  # worker 0's agent is gone, its trainer is not
        (NOW + 10_501, 3601, True, True),  # the deadline is past, with the time for a checkpoint
        (NOW + 10_501, 3599, False, False),
    ],
)
def test_when_any_worker_gives_the_slice_back(now, silent, is_running, forsaken):
    assert is_forsaken(WANTED, now, silent, is_running) is forsaken


def _walk(seed: int) -> list[JobState]:
    """A job whose workers do anything at any time; returns its states."""
    chance = random.Random(seed)
    want = dataclasses.replace(WANTED, workers=3, deadline=0.0, max_restarts=50)
    now, state, states = NOW, None, []
    reports: list[WorkerReport] = [ready(0) for _ in range(3)]
    silent = [0.0, 0.0, 0.0]
    for _ in range(400):
        seconds = chance.choice([1, 10, 60, 400])
        now += seconds
        for index, report in enumerate(reports):
            if report.state == "running":
                report = reports[index] = dataclasses.replace(report, step=max(report.step, chance.randrange(20)))
            if chance.random() < 0.02:
                silent[index] += 400
            elif chance.random() < 0.5:
                silent[index] = 0.0
            if report.state == "running" and (
                chance.random() < 0.15 or (state.ask == "kill" and chance.random() < 0.8)
            ):
                code = chance.choice([0, 1, 75, 71, None, -9])
                reports[index] = ended(code, at=now, attempt=report.attempt)
            elif state and state.state == "running" and report.attempt < state.attempt and chance.random() < 0.7:
                reports[index] = running(state.attempt)
        if state and state.outcome == "sick_slice" and chance.random() < 0.3:  # a supervisor replaces the slice
            want = dataclasses.replace(want, incarnation=f"{want.incarnation}+")
            reports, silent = [ready(0) for _ in range(3)], [0.0, 0.0, 0.0]
        if chance.random() < 0.03:
            want = dataclasses.replace(want, want="stop" if want.want == "run" else "run")
        look = tuple(WorkerSeen(report, silent[index]) for index, report in enumerate(reports))
        before = state
        decision = decide(want, state, Seen(now, look, supervised=chance.random() < 0.5))
        state = decision.job
        if before is not None and state.attempt > before.attempt:
            assert state.attempt == before.attempt + 1
            assert all(report.state != "running" for report in reports), "an attempt began beside a running one"
        states.append(state)
    return states


@pytest.mark.parametrize("seed", range(30))
def test_an_attempt_never_begins_beside_a_running_one(seed):
    states = _walk(seed)
    assert max(state.attempt for state in states) > 1


LOGS = [
    (78, "", failures.CONFIGURATION),
    (1, "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes", failures.MEMORY),
    (1, "open(/dev/vfio/0): Device or resource busy", failures.TPU),
    (1, "RuntimeError: Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed", failures.TPU),
    (1, "step  100/20000  epoch 1\nopen(/dev/vfio/0): Device or resource busy", failures.CRASH),
    (71, "config.platform='tpu', but JAX found 8 device(s) of platform 'cpu'", failures.TPU),
    (71, "no space left on device", failures.CRASH),
    (-11, "", failures.CRASH),
    (None, "", failures.LOST),
]


def test_a_trainer_that_was_asked_before_it_could_save():
    assert failures.kind_of(143, "", asked=True) == failures.PREEMPTED
    assert failures.kind_of(143, "") == failures.CRASH


@pytest.mark.parametrize(("code", "log", "kind"), LOGS)
def test_the_kind_of_an_end(code, log, kind):
    assert failures.kind_of(code, log) == kind
