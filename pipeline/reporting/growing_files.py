"""Files that a run adds to while it trains, such as its record: written in the background, one piece after another.

On gs:// a piece is an object that the server joins to the rest (`pipeline/storage/objects.append`), so what a report costs does
not grow with the file. A process that is killed leaves a prefix of what was added; on a local disk it may end within a piece.
"""

import concurrent.futures
import threading

from etils import epath

from pipeline.errors import ConfigError


class GrowingFile:
    """A file that is only added to, by this process alone.

    Pieces that wait while another is on its way are sent as one.
    """

    def __init__(self, path: epath.Path):
        self._path = path
        self._thread = concurrent.futures.ThreadPoolExecutor(1, path.name)
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._under_way = []

    def append(self, piece: bytes) -> None:
        """Hands a piece over to be written; raises what went wrong with an earlier one."""
        self._raise_failures()
        with self._lock:
            self._waiting += piece
        self._under_way.append(self._thread.submit(self._write))

    def wait(self) -> None:
        """Waits until everything is written; raises what went wrong."""
        while self._under_way:
            self._under_way.pop(0).result()

    def close(self) -> None:
        """Waits as `wait`, and ends the thread."""
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
        except FileExistsError as error:  # of a bucket: it is not as this process left it
            raise ConfigError(
                f"{self._path} was written by another process meanwhile: two runs have the same --workdir. End one of them"
            ) from error
