"""What orbax makes of paths, mended where it is wrong: names that mean something in a pattern or a URL, and buckets.

orbax has no setting for any of this, so its functions are replaced, once a process, before the first checkpoint is opened.
"""

import functools

from orbax.checkpoint._src.path import gcs_utils

from pipeline.storage import literal_names, objects


@functools.cache
def mend() -> None:
    """Replaces them."""
    literal_names.take_folders_literally()
    gcs_utils.parse_gcs_path = _bucket_and_key
    gcs_utils.is_hierarchical_namespace_enabled = _has_no_real_folders


def _bucket_and_key(path: object, add_trailing_slash: bool = True) -> tuple[str, str]:
    """Returns both parts of `gs://bucket/key`; orbax's takes it for a URL, whose path ends before a `?` or a `#`.

    So the arrays of every run below `gs://bucket/a#…` would be written into `gs://bucket/a`, over each other.
    """
    bucket, key = objects.split(str(path))
    return bucket, f"{key.rstrip('/')}/" if add_trailing_slash else key


def _has_no_real_folders(path: object) -> bool:
    """Keeps orbax from asking for the bucket's own description whenever it lists or deletes.

    It wants to know whether the bucket has real folders. That needs a permission (storage.buckets.get) that writing objects
    does not need; without it a run could not begin. Objects are listed and deleted equally in either kind of bucket.
    """
    del path
    return False
