"""The control plane: the objects in the run's bucket by which supervisor, keeper and agents communicate.

This module names, reads and writes the objects; `control.py` defines their contents. Supervisors and commands write
`control.json`, always on condition of the generation that they read. The keeper on worker 0 writes `job.json`. Each agent
writes its worker's report and log.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pod.plane.control import Control, JobState, WorkerReport, control_from, job_from, report_from
from pod.services.bucket import ABSENT, Bucket, Conflict

Value = TypeVar("Value")
Content = TypeVar("Content", bound="Control | JobState | WorkerReport")

_REPORT_BYTES = 7000  # an object's metadata may have 8 KiB


class ControlError(Exception):
    """An object of the control plane is invalid."""


@dataclass(frozen=True)
class Stored(Generic[Value]):
    """A value and the generation of its object."""

    value: Value
    generation: int


class ControlPlane:
    """The objects of one run.

    Args:
      bucket: the run's bucket.
      folder: the name of the folder in it, …/pod.

    Attributes:
      bucket: the run's bucket.
      url: the folder's URL, gs://BUCKET/…/pod.
    """

    def __init__(self, bucket: Bucket, folder: str):
        self.bucket, self._folder = bucket, folder
        self.url = f"gs://{bucket.name}/{folder}"

    def name(self, *parts: str) -> str:
        """Returns the full name of an object below the control plane."""
        return "/".join([part for part in (self._folder, *parts) if part])

    def read_json(self, name: str) -> Stored[Any] | None:
        """Returns the content of an object, or None.

        Raises:
          ControlError: it is not JSON.
        """
        found = self.bucket.read(self.name(name))
        if found is None:
            return None
        try:
            return Stored(json.loads(found[0]), found[1])
        except ValueError:
            raise ControlError(f"{self.url}/{name} is damaged: it is not JSON; delete it and start again") from None

    def write_json(self, name: str, value: Any, *, if_generation: int | None = None) -> int:
        """Writes an object and returns its generation.

        Raises:
          Conflict: it has another generation than `if_generation`.
        """
        content = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
        return self.bucket.write(self.name(name), content, if_generation=if_generation, content_type="application/json")

    def read_control(self) -> Stored[Control] | None:
        """Returns `control.json`; None before the first start."""
        return self._read("control.json", control_from)

    def update_control(self, change: Callable[[Control | None], Control | None]) -> Control | None:
        """Reads `control.json`, changes it, and writes it back; starts over if it was written meanwhile.

        Args:
          change: maps the current value, or None, to the new value, or to None to leave it. It may be called more than once.

        Returns:
          The current value afterwards.
        """
        return self._update("control.json", control_from, change)

    def read_job(self) -> Stored[JobState] | None:
        """Returns `job.json`; None before the first keeper."""
        return self._read("job.json", job_from)

    def write_job(self, job: JobState, generation: int) -> None:
        """Writes `job.json`; raises `Conflict` if it has another generation by now."""
        self.write_json("job.json", dataclasses.asdict(job), if_generation=generation)

    def report(self, incarnation: str, worker: int, report: WorkerReport) -> None:
        """Writes a worker's report, also into the object's metadata, so that one listing reads all reports."""
        content = json.dumps(dataclasses.asdict(report))
        if len(content) > _REPORT_BYTES:
            content = json.dumps(dataclasses.asdict(dataclasses.replace(report, message=report.message[-300:])))
        self.bucket.write(
            self.name("slices", incarnation, f"worker-{worker}.json"),
            content.encode(),
            content_type="application/json",
            metadata={"report": content},
        )

    def workers(self, incarnation: str) -> dict[int, WorkerReport]:
        """Returns the existing reports of a slice's workers."""
        prefix = self.name("slices", incarnation, "worker-")
        reports = {}
        for listed in self.bucket.list(prefix):
            number = listed.name[len(prefix) :].partition(".")[0]
            if number.isdigit() and "report" in listed.metadata:
                reports[int(number)] = report_from(json.loads(listed.metadata["report"]))
        return reports

    def log_name(self, incarnation: str, attempt: int, worker: int, piece: int) -> str:
        """Returns the full name of a piece of a log."""
        return self.name("slices", incarnation, f"attempt-{attempt}", f"worker-{worker}", f"log-{piece:06d}")

    def write_log(self, incarnation: str, attempt: int, worker: int, piece: int, content: bytes) -> None:
        """Writes a piece of a log."""
        name = self.log_name(incarnation, attempt, worker, piece)
        self.bucket.write(name, content, content_type="text/plain; charset=utf-8")

    def read_log(self, incarnation: str, attempt: int, worker: int, piece: int) -> bytes | None:
        """Returns a piece of a log, or None."""
        found = self.bucket.read(self.log_name(incarnation, attempt, worker, piece))
        return None if found is None else found[0]

    def _read(self, name: str, build: Callable[[Any], Content]) -> Stored[Content] | None:
        found = self.read_json(name)
        if found is None:
            return None
        try:
            return Stored(build(found.value), found.generation)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ControlError(f"{self.url}/{name} cannot be understood: {error}") from None

    def _update(
        self, name: str, build: Callable[[Any], Content], change: Callable[[Content | None], Content | None]
    ) -> Content | None:
        while True:
            stored = self._read(name, build)
            value = None if stored is None else stored.value
            wanted = change(value)
            if wanted is None or wanted == value:
                return value
            try:
                self.write_json(
                    name,
                    dataclasses.asdict(wanted),
                    if_generation=ABSENT if stored is None else stored.generation,
                )
                return wanted
            except Conflict:
                continue
