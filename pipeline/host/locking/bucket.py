"""The operations on a bucket that a lock needs, by the client of `pipeline/storage/objects.py`."""

import contextlib

from pipeline.host.locking.objects import Changed
from pipeline.storage import objects


class Bucket:
    """An `ObjectStore` whose names are whole locations, `gs://bucket/object`."""

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns the content and the generation of an object, or None."""
        while entry := objects.stat(name):
            with contextlib.suppress(FileNotFoundError):  # it was rewritten between the two requests
                return objects.read(name, generation=entry.generation), entry.generation
        return None

    def write(self, name: str, content: bytes, generation: int) -> int:
        """Replaces a generation of an object (0: none) and returns the new one; raises `Changed` if it has another."""
        try:
            return objects.write(name, content, generation=generation).generation
        except FileExistsError as error:
            raise Changed from error
