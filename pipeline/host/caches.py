"""The cache folders of this machine, for what can be made again, such as compiled programs.

They are in the user's cache folder. In a container, a user often has no name and no usable HOME. Then they are in the machine's
temporary folder, closed to other users, because cached programs are run.
"""

import contextlib
import os
import pathlib
import tempfile


def cache_folder(name: str) -> pathlib.Path:
    """Returns the folder `name` of this project's caches; it exists and is writable."""
    with contextlib.suppress(OSError, RuntimeError):  # no home is a RuntimeError
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        return _made(pathlib.Path(home) / "efficientnet" / name)
    return _made(_own_temporary_folder() / name)


def give_libraries_a_place() -> None:
    """Sets folders for libraries that, without a home directory, would create a folder named `~`."""
    if os.path.expanduser("~") == "~":
        for variable, name in (("KERAS_HOME", "keras"), ("MPLCONFIGDIR", "matplotlib")):
            if variable not in os.environ:
                os.environ[variable] = str(cache_folder(name))


def _made(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(folder)
    return folder


def _own_temporary_folder() -> pathlib.Path:
    folder = pathlib.Path(tempfile.gettempdir()) / f"efficientnet-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if found.st_uid == os.getuid() and found.st_mode & 0o777 == 0o700:
        return folder
    return pathlib.Path(tempfile.mkdtemp(prefix="efficientnet-"))
