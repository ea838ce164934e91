"""gs:// as a file system for the libraries that need one: orbax, tfds, JAX's compilation cache, TensorBoard's files.

It is an fsspec file system, which `etils.epath` finds under its name for Google Cloud Storage (`pipeline/__init__.py`
registers it). Buckets have no folders. Making one creates an empty object whose name ends in "/"; a prefix of object names is
a folder too. Renaming copies each object on the server. A file appears complete when it is closed, and not at all if its
`with` block raises.
"""

import io
import os
import tempfile
import types
from typing import Any

from fsspec import AbstractFileSystem

from pipeline.storage import failures, objects

_IN_MEMORY_BYTES = 32 * 1024**2  # of a file that is being written; longer ones are kept on disk
COMMIT_MARK = "commit_success.txt"  # orbax's mark of a complete folder on gs://
DELETION_MARK = "being_deleted.txt"  # in such a folder while it is being deleted


class BucketFileSystem(AbstractFileSystem):
    """See the module. Paths are given as `gs://bucket/key` or `bucket/key`."""

    protocol = ("gs", "gcs")
    cachable = True

    def __init__(self, **options):
        options.pop("finalize_on_close", None)  # epath's option; here objects are always final once closed
        super().__init__(**options)

    def info(self, path: str, **_) -> dict[str, Any]:
        """Returns information on an object or a folder, by one request for each."""
        location = _location(path)
        if objects.split(location)[1] and (entry := objects.stat(location)) is not None:
            return _file(entry)
        found, _ = objects.entries(location, recursive=True, limit=1)
        if found or not objects.split(location)[1]:
            return _folder(location)
        raise failures.not_found(location)

    def exists(self, path: str, **_) -> bool:
        try:
            self.info(path)
        except FileNotFoundError:
            return False
        return True

    def ls(self, path: str, detail: bool = True, **_) -> list:
        location = _location(path)
        found, folders = objects.entries(location)
        listed = [_file(entry) for entry in found if not entry.location.endswith("/")]
        listed += [_folder(folder) for folder in folders]
        if not found and not folders:
            listed = [self.info(location)]  # a file, an empty bucket, or an error
            if listed[0]["type"] == "directory":
                listed = []
        return listed if detail else [entry["name"] for entry in listed]

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **options):
        if maxdepth is not None or withdirs:
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **options)
        found, _ = objects.entries(_location(path), recursive=True)
        files = {entry["name"]: entry for entry in map(_file, found) if not entry["name"].endswith("/")}
        return files if detail else sorted(files)

    def mkdir(self, path: str, create_parents: bool = True, **_) -> None:
        if objects.split(_location(path))[1]:
            objects.write(f"{_location(path)}/", b"")

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        if not exist_ok and self.exists(path):
            raise FileExistsError(f"{_location(path)} exists")
        self.mkdir(path)

    def rmdir(self, path: str) -> None:
        objects.delete(f"{_location(path)}/", missing_ok=True)

    def rm_file(self, path: str) -> None:  # pyrefly: ignore[bad-override] - fsspec's only raises
        objects.delete(_location(path))

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        location = _location(path)
        if not recursive:
            if objects.stat(location) is None and self.exists(location):
                raise IsADirectoryError(location)
            self.rm_file(location)
            return
        found = [entry.location for entry in objects.entries(location, recursive=True)[0]]
        if not found:
            self.rm_file(location)
            return
        # If this process is killed meanwhile, the rest must not look complete and must be recognisable.
        marks = [name for name in found if name.endswith(f"/{COMMIT_MARK}")]
        deleting = f"{location}/{DELETION_MARK}"
        if marks:
            objects.write(deleting, b"")
            objects.delete_all(marks)
        objects.delete_all(name for name in found if name not in marks and name != deleting)
        objects.delete(deleting, missing_ok=True)

    def cp_file(self, path1: str, path2: str, **_) -> None:
        objects.copy(_location(path1), _location(path2))

    def mv(self, path1: str, path2: str, recursive: bool = True, maxdepth: int | None = None, **_) -> None:
        source, target = _location(path1), _location(path2)
        if objects.stat(source) is not None:
            objects.copy(source, target)
            objects.delete(source, missing_ok=True)
            return
        found = [entry.location for entry in objects.entries(source, recursive=True)[0]]
        if not found:
            raise failures.not_found(source)
        for name in found:
            objects.copy(name, target + name.removeprefix(source))
        self.rm(source, recursive=True)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_) -> bytes:
        return objects.read(_location(path), start, end)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_) -> None:
        objects.write(_location(path), value, generation=0 if mode == "create" else None)

    # fsspec's type is its own class of files, of which it calls nothing else.
    def _open(self, path: str, mode: str = "rb", **_) -> io.BufferedIOBase:  # pyrefly: ignore[bad-override]
        location = _location(path)
        if mode == "rb":
            return io.BytesIO(objects.read(location))
        if mode in ("wb", "ab", "xb"):
            return _Writer(location, mode)
        raise ValueError(f"{location} cannot be opened with mode {mode!r}")

    def created(self, path: str):
        return self.modified(path)

    def modified(self, path: str):
        return self.info(path)["mtime"]


def finish_deletions(folder: str | os.PathLike) -> list[str]:
    """Finishes interrupted deletions in a folder on gs://, and returns the names of folders without a mark.

    Those are interrupted saves. They stay, and the next save of the same name replaces them.
    """
    location = _location(folder)
    found = [entry.location.removeprefix(f"{location}/") for entry in objects.entries(location, recursive=True)[0]]
    children = {name.split("/")[0] for name in found if "/" in name}
    deleting = {child for child in children if f"{child}/{DELETION_MARK}" in found}
    for child in deleting:
        BucketFileSystem().rm(f"{location}/{child}", recursive=True)
    return sorted(child for child in children - deleting if f"{child}/{COMMIT_MARK}" not in found)


class _Writer(io.BufferedIOBase):
    """Buffers what is written and uploads it when closed."""

    def __init__(self, location: str, mode: str):
        self._location, self._mode = location, mode
        self._content = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed with this

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return self._content.write(data)

    def tell(self) -> int:
        return self._content.tell()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        with self._content:
            if self._mode == "ab":
                self._content.seek(0)
                objects.append(self._location, self._content.read())
            else:
                objects.write(self._location, self._sendable(), generation=0 if self._mode == "xb" else None)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: types.TracebackType | None
    ) -> None:
        if exc_type is None:
            self.close()
        elif not self.closed:
            super().close()
            self._content.close()

    def _sendable(self):
        size = self._content.tell()
        self._content.seek(0)
        return self._content.read() if size <= objects.ONE_REQUEST_BYTES else self._content


def _location(path: str | os.PathLike) -> str:
    return f"gs://{os.fspath(path).removeprefix('gs://').removeprefix('gcs://').strip('/')}"


def _file(entry: objects.Entry) -> dict[str, Any]:
    name = entry.location.removeprefix("gs://")
    return {"name": name, "type": "file", "size": entry.size, "mtime": entry.updated, "generation": entry.generation}


def _folder(location: str) -> dict[str, Any]:
    return {"name": location.removeprefix("gs://"), "type": "directory", "size": 0, "mtime": None}
