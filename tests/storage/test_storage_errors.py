"""Storage that fails is not damage: real errors of the kernel while a checkpoint is read."""

import os
import pathlib
import resource
import subprocess
import sys

import pytest

from pipeline.errors import MachineError
from pipeline.storage import storage_errors
from tests.runtime.test_checkpoints import largest_file, restore, save, state_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
READ_AS_NOBODY = """
import os, sys
from pipeline.runtime import checkpoint_reading
from pipeline.storage import storage_errors
from pipeline.errors import MachineError
storage_errors.PAUSES_SECONDS = (0.0,)
if os.getuid() == 0:
    os.setegid(65534); os.seteuid(65534)
try:
    checkpoint_reading.read_variables(sys.argv[1])
except MachineError as error:
    print("machine:", error)
"""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(storage_errors, "PAUSES_SECONDS", (0.0, 0.0))


def tree(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def unreadable_device(path: pathlib.Path) -> None:
    """Makes every read of the file fail with EIO, as a broken disk's do: address 0 of a process cannot be read."""
    path.unlink()
    path.symlink_to("/proc/self/mem")


PLACES = {
    "arrays": largest_file,
    "notes": lambda newest: newest / "notes" / "metadata",
    "structure": lambda newest: newest / "state" / "_METADATA",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_disk_that_cannot_be_read_is_no_damage(place, tmp_path):
    save(tmp_path, state_of(1), state_of(2))
    unreadable_device(PLACES[place](tmp_path / "2"))
    before = tree(tmp_path)
    with pytest.raises(MachineError, match=r"Input/output error"):
        restore(tmp_path)
    assert tree(tmp_path) == before


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts open files as Linux shows them")
def test_too_many_open_files_are_no_damage(tmp_path):
    save(tmp_path, state_of(1), state_of(2))
    before = tree(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    restore(tmp_path)  # whatever is opened once for good is open now
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        with pytest.raises(MachineError, match="Too many open files"):
            restore(tmp_path)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert tree(tmp_path) == before
    assert int(restore(tmp_path)[0]["step"]) == 2


@pytest.mark.slow
def test_files_of_another_user_are_no_damage(tmp_path):
    """As uid 65534, in a process of its own, where that can be taken on."""
    save(tmp_path, state_of(1), state_of(2))
    for path in tmp_path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in (tmp_path, *tmp_path.parents[: len(tmp_path.parents) - 2]):
        parent.chmod(0o755)
    secret = largest_file(tmp_path / "2")
    secret.chmod(0)
    result = subprocess.run(
        [sys.executable, "-c", READ_AS_NOBODY, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert result.stdout.startswith("machine:"), result.stdout + result.stderr
    assert "Permission denied" in result.stdout


@pytest.mark.parametrize(
    ("error", "is_storage"),
    [
        (OSError(116, "Stale file handle"), True),
        (ValueError("Error opening: [OS error 24: Too many open files]"), True),
        (ValueError('UNAVAILABLE: Error reading "gs://bucket/state/d/abc": CURL error'), True),
        (RuntimeError("HTTP response code: 503"), True),
        (FileNotFoundError(2, "No such file or directory"), False),
        (ValueError("NOT_FOUND: Error opening zarr array"), False),
        (ValueError("DATA_LOSS: Error decoding array"), False),
        (ValueError("Expecting value: line 1 column 2"), False),
    ],
)
def test_what_the_words_of_libraries_mean(error, is_storage):
    assert storage_errors.is_storage_failure(error) == is_storage
    outer = ValueError("could not restore")
    outer.__cause__ = error
    assert storage_errors.is_storage_failure(outer) == is_storage
