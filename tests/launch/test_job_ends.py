"""The rules of docs/pods.md about the end of an attempt, each as a row: how the workers ended, and what follows."""

import dataclasses

import pytest
from jobs import JOB, NOW, WANTED, ended, job, running, seen, wanted
from pod.job.job_decisions import decide

# name, what is wanted, the job, what is seen, what must be in the next state
ROWS = [
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
]


@pytest.mark.parametrize(("want", "state", "now", "expected"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_follows_from_an_end(want, state, now, expected):
    found = dataclasses.asdict(decide(want, state, now).job)
    assert {name: found[name] for name in expected} == expected


def test_the_end_of_a_job_is_said_in_words():
    decision = decide(WANTED, JOB, seen(ended(78), ended(75, 11)))
    assert "the configuration cannot work" in decision.job.message
    assert decision.job.message.endswith("Worker 0 said:\nsaid")
