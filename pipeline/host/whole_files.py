"""Writes small files atomically, such as those that mark something as finished."""

from etils import epath

from pipeline.storage import local

PARTIAL = ".partial"  # suffix of a file that is being written


def write_whole(path: epath.Path, text: str) -> None:
    """Writes a file atomically: a kill or a full disk leaves the earlier content."""
    if local.is_remote(path):  # objects are always written atomically
        path.write_text(text)
        return
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text)
    partial.replace(path)
