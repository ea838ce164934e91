"""Warns of a bucket in another region than the machine: each byte then costs money, and each request takes longer.

On Google's machines, their metadata server names the region. The bucket's region is read if the account may. A dual-region
bucket has the name of neither region, so it gets the warning too.
"""

import os
import pathlib
import urllib.request

from absl import logging

from pipeline.storage import objects
from pipeline.storage.local import is_remote

_PRODUCT = pathlib.Path("/sys/class/dmi/id/product_name")  # "Google Compute Engine" on Google's machines
_AREAS = {"us": "us-", "eu": "europe-", "asia": "asia-"}  # buckets of a whole area
_TIMEOUT_SECONDS = 2


def warn_if_far(path: str | None) -> None:
    """Logs a warning if a `gs://` path is in another region than this machine.

    Raises:
      ConfigError: there is no such bucket, or there are no credentials.
    """
    if path is None or not is_remote(path) or (here := _region_of_machine()) is None:
        return
    there = objects.region(path)
    if there is None or here == there or (there in _AREAS and here.startswith(_AREAS[there])):
        return
    bucket = objects.split(path)[0]
    logging.warning(
        "gs://%s is in %s and this machine in %s: Google bills every byte between them, and requests take long. "
        "Use a bucket in %s: gcloud storage buckets create gs://NAME --location=%s, then "
        "gcloud storage cp --recursive gs://%s/* gs://NAME",
        *(bucket, there, here, here, here, bucket),
    )


def _region_of_machine() -> str | None:
    """Returns the region of this machine, such as "us-central1"; None outside Google Cloud."""
    host = os.environ.get("GCE_METADATA_HOST")
    if host is None and not (_PRODUCT.exists() and "Google" in _PRODUCT.read_text()):
        return None
    request = urllib.request.Request(
        f"http://{host or 'metadata.google.internal'}/computeMetadata/v1/instance/zone",
        headers={"Metadata-Flavor": "Google"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return answer.read().decode().rpartition("/")[2].rpartition("-")[0]
    except OSError:
        return None
