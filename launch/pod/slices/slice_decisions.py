"""Decides what to do next with the slice, from observations of slice and job: pure functions over plain values.

These are the rules of docs/pods.md ("What follows from what"). Durations are arguments. A state that the service adds later
is waited for with a time limit, and not at once treated as gone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pod import errors
from pod.options import Limits
from pod.services.service import Node, Problem, QueuedResource

# What to do next.
ASK = "ask"  # request a slice
WAIT = "wait"  # look again later
WATCH = "watch"  # the slice is ready: look at the job
REPLACE = "replace"  # delete what is left, then ask for another
STOP = "stop"  # the user deleted the slice: end, and say how to continue
END = "end"  # the run is over

# Why the service refused or failed something.
QUOTA, CAPACITY, EXPIRED, PASSING = "quota", "capacity", "expired", "passing"
DENIED, LOGIN, INVALID, OTHER = "denied", "login", "invalid", "other"


@dataclass(frozen=True)
class Decision:
    """What to do.

    Attributes:
      action: ASK, WAIT, WATCH, REPLACE, STOP or END.
      reason: why, in words for the user.
      exit_code: the exit code of the run, for END and STOP.
      failed: whether it counts as a consecutive failure of the request (REPLACE, ASK).
      sick: whether it counts as a slice on which nothing ran (REPLACE).
      leave: whether END leaves the slice there.
    """

    action: str
    reason: str
    exit_code: int = errors.FINISHED
    failed: bool = False
    sick: bool = False
    leave: bool = False


@dataclass(frozen=True)
class SliceSeen:
    """The observed slice.

    Attributes:
      queued_resource: the queued resource, or None.
      node: the node; None if there is none or it was not looked up.
      known: whether this supervisor has seen the wanted incarnation before.
      asked: whether it was requested and has not been seen yet.
      seconds: for how long it has been in this state.
      stale: whether it is of another incarnation than the wanted one, so that nothing runs on it.
    """

    queued_resource: QueuedResource | None
    node: Node | None
    known: bool
    asked: bool
    seconds: float
    stale: bool = False


@dataclass(frozen=True)
class JobSeen:
    """The job, as its keeper wrote it for this incarnation.

    Attributes:
      state: "" if nothing was written yet, else "setup", "running" or "ended".
      outcome: the outcome, once ended; see `control.py`.
      message: the reason, in the keeper's words.
      exit_code: the trainer's exit code.
      silent_seconds: time since the keeper's last write, or since the slice was ready, counted only while both could be seen.
      ready_seconds: time since the slice was ready, or since the job last ran, counted likewise.
    """

    state: str = ""
    outcome: str = ""
    message: str = ""
    exit_code: int = 0
    silent_seconds: float = 0
    ready_seconds: float = 0


@dataclass(frozen=True)
class Wanted:
    """What the user has asked of the run.

    Attributes:
      stop: whether the job was asked to stop.
      keep: whether a ready slice stays at the end.
      over: seconds since the deadline; negative before it.
    """

    stop: bool = False
    keep: bool = False
    over: float = -1


_QUEUED = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES")
_COMING = ("CREATING", "STARTING", "RESTARTING", "REIMAGING", "REPAIRING", "UNHIDING")
_GONE = ("PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "HIDING", "HIDDEN", "UNKNOWN")


def decide(seen: SliceSeen, job: JobSeen, wanted: Wanted, limits: Limits) -> Decision:
    """Returns what to do next, from all observations."""
    if job.state == "ended" and job.outcome != "sick_slice":  # its keeper may already have deleted the slice
        return _ended(job, wanted)
    about_slice = decide_slice(seen, limits)
    if about_slice.action == STOP and job.outcome == "sick_slice" and seen.queued_resource is None:
        about_slice = Decision(REPLACE, f"{job.message or 'the slice was sick'}; worker 0 gave it back", sick=True)
    if about_slice.action == STOP:
        return about_slice
    if wanted.over >= 0:
        return _at_deadline(about_slice, job, wanted, limits)
    decision = about_slice if about_slice.action != WATCH else decide_job(job, wanted, limits)
    if wanted.stop and decision.action not in (WATCH, END):
        return Decision(END, f"stopped as asked; nothing was running ({decision.reason})", errors.PREEMPTED)
    return decision


def decide_slice(seen: SliceSeen, limits: Limits) -> Decision:
    """Returns what follows from the slice alone; WATCH if it is ready."""
    resource = seen.queued_resource
    if resource is None:
        if seen.known:
            words = "the queued resource was deleted by somebody else, not by the service or this launcher"
            return Decision(STOP, words, errors.PREEMPTED)
        if seen.asked and seen.seconds <= limits.call_seconds:
            return Decision(WAIT, "requested; the service does not show it yet")
        return Decision(ASK, "not there")
    state, by_user = resource.state, resource.initiator == "USER"
    if seen.stale and state != "DELETING":
        return Decision(REPLACE, f"{state}, and of an earlier request of this run")
    if state in _QUEUED:
        return Decision(WAIT, state)
    if state == "PROVISIONING":
        return _bounded(state, seen, limits)
    if state == "ACTIVE":
        return _decide_node(seen, limits)
    if state == "FAILED":
        return decide_failed(resource.problem)
    if state in ("SUSPENDING", "SUSPENDED"):
        if by_user and seen.known:  # a slice that was already so at the start does not stop this run
            return Decision(STOP, f"{state} by its user: somebody deleted the machines", errors.PREEMPTED)
        return Decision(REPLACE, f"{state} by the service: the machines were taken back")
    if state == "DELETING":
        return Decision(WAIT, state)
    return _bounded(state, seen, limits)  # an unknown state


def _decide_node(seen: SliceSeen, limits: Limits) -> Decision:
    node = seen.node
    if node is None:
        return _bounded("ACTIVE, without its machines", seen, limits, limits.call_seconds)
    more = "".join(f" ({words})" for words in (node.health_description, node.symptoms) if words)
    if node.state == "READY":
        return Decision(WATCH, f"READY{more}")
    if node.state in _COMING:
        return _bounded(f"{node.state}{more}", seen, limits)
    if node.state in _GONE:
        return Decision(REPLACE, f"{node.state}{more}")
    return _bounded(f"{node.state}{more}", seen, limits)  # DELETING, which the queued resource will explain, or unknown


def _bounded(words: str, seen: SliceSeen, limits: Limits, seconds: float = 0) -> Decision:
    bound = seconds or limits.provision_seconds
    if seen.seconds <= bound:
        return Decision(WAIT, words)
    return Decision(REPLACE, f"it has been {words} for {bound / 60:g} minutes", failed=True)


def decide_failed(problem: Problem | None) -> Decision:
    """Returns what follows from a request in the state FAILED, by the service's error."""
    message = problem.message if problem else "no reason given"
    cause = cause_of(problem.code if problem else 0, "", message)
    if cause in (DENIED, INVALID):
        return Decision(END, f"FAILED, and asking again changes nothing: {message}", errors.FAILED)
    return Decision(REPLACE, f"FAILED: {message}", failed=cause == OTHER)


def decide_refused(cause: str, message: str) -> Decision:
    """Returns what follows from a request that was refused at once.

    Args:
      cause: the result of `cause_of`.
      message: the service's message.
    """
    if cause == LOGIN:
        return Decision(WAIT, f"not logged in; run: gcloud auth login ({message})")
    if cause == DENIED:
        return Decision(END, f"not allowed to create the slice: {message}", errors.FAILED)
    if cause == INVALID:
        return Decision(END, f"the request cannot work: {message}", errors.FAILED)
    return Decision(ASK, message, failed=cause == OTHER)


# The numbers of google.rpc.Code, and their names in an HTTP error.
_CODES = {3: INVALID, 5: INVALID, 9: OTHER, 7: DENIED, 16: LOGIN, 8: CAPACITY, 4: EXPIRED, 10: PASSING, 14: PASSING}
_STATUSES = {
    "INVALID_ARGUMENT": INVALID,
    "NOT_FOUND": INVALID,
    "UNIMPLEMENTED": INVALID,
    "PERMISSION_DENIED": DENIED,
    "UNAUTHENTICATED": LOGIN,
    "RESOURCE_EXHAUSTED": CAPACITY,
    "DEADLINE_EXCEEDED": PASSING,
    "ABORTED": PASSING,
    "INTERNAL": PASSING,
    "UNAVAILABLE": PASSING,
}
_QUOTA_WORDS = re.compile(r"\bquota", re.IGNORECASE)
_CAPACITY_WORDS = re.compile(
    r"capacity|stockout|not enough resources|insufficient|currently unavailable", re.IGNORECASE
)
_EXPIRY_WORDS = re.compile(r"valid.?until|expired|not be fulfilled", re.IGNORECASE)


def cause_of(code: int, status: str, message: str) -> str:
    """Returns the cause of a failure.

    Args:
      code: a google.rpc.Code, as in `failedData`; 0 for none.
      status: the word of an HTTP error, such as "RESOURCE_EXHAUSTED"; "" for none.
      message: the service's message, which distinguishes quota from capacity.
    """
    cause = _STATUSES.get(status) or _CODES.get(code, OTHER)
    if cause == LOGIN:
        return cause
    if _QUOTA_WORDS.search(message) and cause != INVALID:
        return QUOTA
    if cause in (OTHER, CAPACITY, PASSING, EXPIRED):
        if _CAPACITY_WORDS.search(message):
            return CAPACITY
        if _EXPIRY_WORDS.search(message):
            return EXPIRED
    return cause


_EXIT_CODES = {
    "finished": errors.FINISHED,
    "stopped": errors.PREEMPTED,
    "deadline": errors.PREEMPTED,
    "configuration": errors.CONFIG_ERROR,
    "data": errors.DATA_ERROR,
    "training": errors.TRAINING_ERROR,
    "memory": errors.TRAINING_ERROR,
    "gave_up": errors.FAILED,
}


def decide_job(job: JobSeen, wanted: Wanted, limits: Limits) -> Decision:
    """Returns what follows from the job on a ready slice."""
    if job.state == "ended":
        return _ended(job, wanted)
    if job.silent_seconds > limits.heartbeat_seconds and job.state:
        words = f"worker 0 has not been heard of for {job.silent_seconds / 60:.0f} minutes"
        return Decision(REPLACE, words, sick=True)
    if job.state != "running" and job.ready_seconds > limits.setup_seconds:
        reason = f" ({job.message})" if job.message else ""
        words = f"the job has not started for {limits.setup_seconds / 60:g} minutes on a slice that is ready{reason}"
        return Decision(REPLACE, words, sick=True)
    return Decision(WATCH, job.message or job.state or "the workers have not answered yet")


def _ended(job: JobSeen, wanted: Wanted) -> Decision:
    if job.outcome == "sick_slice":
        return Decision(REPLACE, job.message or "the slice is sick", sick=True)
    code = _EXIT_CODES.get(job.outcome, errors.FAILED)
    words = job.message or f"the job has ended: {job.outcome or 'no outcome'}"
    return Decision(END, words, code, leave=job.outcome == "stopped" or (wanted.keep and job.outcome != "deadline"))


def _at_deadline(about_slice: Decision, job: JobSeen, wanted: Wanted, limits: Limits) -> Decision:
    """Returns what follows at the deadline: wait only while the keeper has the job save."""
    saving = about_slice.action == WATCH and job.state == "running"
    if saving and wanted.over <= limits.stop_seconds + limits.grace_seconds:
        return Decision(WATCH, "the deadline is reached: the job is saving a checkpoint")
    return Decision(END, "the deadline is reached", errors.PREEMPTED)
