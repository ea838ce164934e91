"""Takes a slice away and waits until nothing is left that is billed.

Owns the order: the queued resource with its nodes, then a node that outlived it. Errors are answered by trying again until time
is over. Used by supervisors, by `down`, and by nobody who only wants to look.
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
    """Deletes the queued resource `name` and its node, and returns when both are gone.

    Args:
      service: of the zone.
      name: of the queued resource and the node.
      version: of the API that has them.
      seconds: for how long it is tried.
      pause: seconds between two looks.
      clock: for both.
      each_time: called between two looks, such as to keep a lock.

    Raises:
      Refused: it is still there, with the last error.
    """
    end = clock.monotonic() + seconds
    trouble = ""
    while True:
        try:
            if _step(service, name, version):
                return
            trouble = ""
        except (ApiError, CredentialsError) as error:
            trouble = str(error)
        if clock.monotonic() > end:
            project, zone = service.parent.split("/")[1::2]
            command = gcloud.list_queued_resources(project, zone)
            words = f"cannot delete {name}{': ' + trouble if trouble else ': it takes too long'}"
            raise Refused(f"{words}. It may still be billed; try again, or see: {command}")
        clock.sleep(pause)
        each_time()


def _step(service: Service, name: str, version: str) -> bool:
    """Does the next thing; returns whether nothing is left."""
    resource = service.queued_resource(name, version)
    if resource is not None:
        if resource.state != "DELETING":
            service.delete_queued_resource(name, version)
        return False
    node = service.node(name, version)
    if node is None:
        return True
    if node.state != "DELETING":  # a machine can outlive its request, and is billed as long as it is there
        service.delete_node(name, version)
    return False
