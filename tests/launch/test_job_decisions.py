"""The rules of docs/pods.md about the job, each as a row: what the workers report, and what follows."""

import dataclasses
import random

import pytest
from jobs import ENDED, JOB, NOW, SETUP, WANTED, ended, job, ready, running, seen, wanted
from pod.job.job_decisions import RETRIES, decide, is_forsaken
from pod.job.job_seen import Seen, WorkerSeen
from pod.plane.control import JobState, WorkerReport

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
