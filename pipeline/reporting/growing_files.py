"""Files that grow while a run trains, such as `metrics.jsonl`, written in the background.

On gs:// the server appends each piece (`pipeline/storage/objects.append`), so the cost of a report does not grow with the file.
A killed process leaves a prefix of what was added; on a local disk the prefix may end within a piece.
"""

import concurrent.futures
import threading

from etils import epath

from pipeline.errors import ConfigError


class GrowingFile:
    """A file to which only this process appends.

    Pieces that arrive while another is being written are written together.
    """

    def __init__(self, path: epath.Path):
        self._path = path
        self._thread = concurrent.futures.ThreadPoolExecutor(1, path.name)
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._under_way = []

    def append(self, piece: bytes) -> None:
        """Queues a piece; raises the error of an earlier one."""
        self._raise_failures()
        with self._lock:
            self._waiting += piece
        self._under_way.append(self._thread.submit(self._write))

    def wait(self) -> None:
        """Waits until everything is written; raises what failed."""
        while self._under_way:
            self._under_way.pop(0).result()

    def close(self) -> None:
        """Waits until everything is written, and ends the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown(wait=False)

    def _raise_failures(self) -> None:
        while self._under_way and self._under_way[0].done():
            self._under_way.pop(0).result()

    def _write(self) -> None:
        with self._lock:
            piece, self._waiting = bytes(self._waiting), bytearray()
        if not piece:
            return
        try:
            with self._path.open("ab") as file:
                file.write(piece)
        except FileExistsError as error:  # in a bucket: the object has changed
            raise ConfigError(
                f"{self._path} was written by another process meanwhile: two runs have the same --workdir. End one of them"
            ) from error
