"""Deletes a slice and waits until nothing that is billed is left.

It deletes the queued resource with its nodes, then a node that outlived it. Errors are retried until the time limit.
Supervisors and `down` use it.
"""

from __future__ import annotations

from collections.abc import Callable

from pod.clock import Clock
from pod.errors import Refused
from pod.services import gcloud
from pod.services.credentials import CredentialsError
from pod.services.http import ApiError
from pod.services.service import Service


def remove(
    service: Service,
    name: str,
    version: str,
    *,
    seconds: float,
    pause: float,
    clock: Clock,
    each_time: Callable[[], None] = lambda: None,
) -> None:
    """Deletes the queued resource `name` and its node, and waits until both are gone.

    Args:
      service: the service of the zone.
      name: the name of the queued resource and the node.
      version: the version of the API that has them.
      seconds: the time limit.
      pause: seconds between two checks.
      clock: the clock of both.
      each_time: called between two checks, for example to renew a lock.

    Raises:
      Refused: it still exists; the message has the last error.
    """
    end = clock.monotonic() + seconds
    last_error = ""
    while True:
        try:
            if _step(service, name, version):
                return
            last_error = ""
        except (ApiError, CredentialsError) as error:
            last_error = str(error)
        if clock.monotonic() > end:
            project, zone = service.parent.split("/")[1::2]
            command = gcloud.list_queued_resources(project, zone)
            words = f"cannot delete {name}{': ' + last_error if last_error else ': it takes too long'}"
            raise Refused(f"{words}. It may still be billed; try again, or see: {command}")
        clock.sleep(pause)
        each_time()


def _step(service: Service, name: str, version: str) -> bool:
    """Takes one step; returns whether nothing is left."""
    resource = service.queued_resource(name, version)
    if resource is not None:
        if resource.state != "DELETING":
            service.delete_queued_resource(name, version)
        return False
    node = service.node(name, version)
    if node is None:
        return True
    if node.state != "DELETING":  # a machine can outlive its request, and is billed while it exists
        service.delete_node(name, version)
    return False
