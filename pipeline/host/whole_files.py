"""Small files that mark something as finished, or that a later start reads: there as a whole, or as they were before."""

from etils import epath

from pipeline.storage import local

PARTIAL = ".partial"  # what the name of a file ends with that is being written


def write_whole(path: epath.Path, text: str) -> None:
    """Writes a file so that a kill or a full disk meanwhile leaves what was there before, and never a part."""
    if local.is_remote(path):  # an object is never there in part
        path.write_text(text)
        return
    partial = path.with_name(path.name + PARTIAL)
    partial.write_text(text)
    partial.replace(path)
