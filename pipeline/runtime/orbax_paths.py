"""Corrects how orbax treats paths: names with the special characters of patterns and URLs, and buckets.

orbax has no settings for this. So functions of it are replaced once in a process, before the first checkpoint is opened.
"""

import functools

from orbax.checkpoint._src.path import gcs_utils

from pipeline.storage import literal_names, objects


@functools.cache
def mend() -> None:
    """Replaces the functions."""
    literal_names.take_folders_literally()
    gcs_utils.parse_gcs_path = _bucket_and_key
    gcs_utils.is_hierarchical_namespace_enabled = _has_no_real_folders


def _bucket_and_key(path: object, add_trailing_slash: bool = True) -> tuple[str, str]:
    """Returns the two parts of `gs://bucket/key`.

    orbax's function treats the path as a URL, which ends before a `?` or a `#`. All runs below `gs://bucket/a#…` would write
    their arrays into `gs://bucket/a`, over each other.
    """
    bucket, key = objects.split(str(path))
    return bucket, f"{key.rstrip('/')}/" if add_trailing_slash else key


def _has_no_real_folders(path: object) -> bool:
    """Returns False, so that orbax does not request the bucket's description whenever it lists or deletes.

    The description says whether the bucket has real folders. Reading it needs the permission storage.buckets.get, which a run
    does not need otherwise. Objects are listed and deleted in the same way in either kind of bucket.
    """
    del path
    return False
