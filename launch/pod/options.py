"""What one call of tpu_pod.sh works with: its options and its time limits.

Plain values; `arguments.py` fills them from the command line and `settings.py` from launch/pod.env. Values that only gcloud or
the configuration know stay empty; `checks.py` fills them in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """Time limits in seconds, and counts. Each is a setting of launch/pod.env, under its name in capitals.

    Attributes:
      poll_seconds: between two observations.
      grace_seconds: for the other workers to end by themselves after one has failed.
      stop_seconds: for a checkpoint when asked to stop.
      provision_seconds: in PROVISIONING, or with machines that are starting, before another slice is requested.
      setup_seconds: from a ready slice to a running job, and for a worker that has never answered.
      heartbeat_seconds: silence after which a worker, or the job's keeper, counts as dead.
      stall_seconds: time without a log line before the job is ended and restarted.
      idle_seconds: how long a slice without a job stays if no supervisor deletes it.
      call_seconds: for one request with all its retries.
      long_call_seconds: for an upload or a deletion.
      lock_seconds: between two renewals of the lock; after six missed ones it is free.
      max_requests: consecutive refusals or failures of a request for other reasons than capacity or quota.
      max_setups: consecutive slices that were replaced because nothing ever ran on them.
    """

    poll_seconds: float = 20
    grace_seconds: float = 120
    stop_seconds: float = 600
    provision_seconds: float = 3600
    setup_seconds: float = 1800
    heartbeat_seconds: float = 300
    stall_seconds: float = 7200
    idle_seconds: float = 3600
    call_seconds: float = 300
    long_call_seconds: float = 1800
    lock_seconds: float = 60
    max_requests: int = 6
    max_setups: int = 3


@dataclass
class Options:
    """The options of a call. Empty text and 0 mean "not given"."""

    command: str = "up"
    config: str = ""
    name: str = ""
    type: str = ""
    zone: str = ""
    project: str = ""
    bucket: str = ""
    workdir: str = ""
    data: str = ""
    mount: bool = False
    provisioning: str = ""
    reservation: str = ""
    max_run_hours: float = 0
    valid_until_hours: float = 0
    environment: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    network: str = "default"
    subnetwork: str = ""
    internal_ips: bool = False
    service_account: str = ""
    boot_disk_gb: int = 0
    max_restarts: int = 20
    deadline_hours: float = 168
    keep: bool = False
    controller: bool = False
    yes: bool = False
    plan: bool = True
    check_service_account: bool = True
    force: bool = False
    dry_run: bool = False
    worker: int = -1
    overrides: list[str] = field(default_factory=list)
    set_by_user: list[str] = field(default_factory=list)  # the attributes that the command line has set
    limits: Limits = field(default_factory=Limits)


def pairs(entries: Iterable[str]) -> dict[str, str]:
    """Returns entries NAME=value as a dictionary."""
    return {name: value for name, _, value in (entry.partition("=") for entry in entries)}
