"""The archive of the files that the workers get: those that git tracks in this checkout, with their current contents.

The same files give the same bytes on every system. `PYTHONPATH=launch python3 -m pod.checkout` writes the archive to standard
output.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from pod.errors import Refused

ROOT = Path(__file__).resolve().parents[2]


def tracked_files(root: Path = ROOT) -> list[str]:
    """Returns the paths of the tracked files, sorted, relative to the checkout.

    Raises:
      Refused: this is not a git checkout, or git is not installed.
    """
    try:
        answer = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True, check=True)
    except FileNotFoundError:
        raise Refused("git is not installed, and only the files that it tracks reach the workers") from None
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["git failed"]
        raise Refused(f"{root}: {lines[0]}; only the files that git tracks reach the workers") from None
    return sorted(name for name in answer.stdout.decode("utf-8", "surrogateescape").split("\0") if name)


def relative_config(config: str, root: Path = ROOT) -> str:
    """Returns a configuration's path on the workers.

    Args:
      config: an absolute path, perhaps with an argument of the configuration after a colon.
      root: the root of the checkout.

    Raises:
      Refused: the workers do not get this file.
    """
    file, colon, argument = config.partition(":")
    try:
        relative = Path(file).resolve().relative_to(root).as_posix()
    except ValueError:
        words = "the workers get this checkout's tracked files, so it must be one of them"
        raise Refused(f"--config={config}: {words}") from None
    if relative not in tracked_files(root):
        words = f"is not tracked by git, and only tracked files reach the workers: git add {relative}"
        raise Refused(f"--config={relative} {words}")
    return relative + colon + argument


def pack(root: Path = ROOT) -> bytes:
    """Returns the tracked files as a gzipped tar archive, without deleted ones."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in tracked_files(root):
            path = root / name
            if not path.is_symlink() and not path.is_file():
                continue
            entry = tarfile.TarInfo(name)
            if path.is_symlink():
                entry.type, entry.linkname = tarfile.SYMTYPE, str(path.readlink())
                archive.addfile(entry)
                continue
            content = path.read_bytes()
            entry.size = len(content)
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def archive_name(content: bytes) -> str:
    """Returns the name of the archive's object, which holds its checksum."""
    return f"code-{hashlib.sha256(content).hexdigest()}.tar.gz"


if __name__ == "__main__":
    sys.stdout.buffer.write(pack())
