"""What becomes of worker processes, and of the run when they die."""

import contextlib
import multiprocessing
import os
import pathlib
import select
import shutil
import subprocess
import sys

import numpy as np
import pytest
from tiny import Large, Noise, note_and_die

from pipeline.data.loading import workers
from pipeline.data.loading.batches import eval_batches, train_batches
from pipeline.data.loading.shared_arrays import WorkerGone
from pipeline.data.sources import open_source
from pipeline.errors import DataError, MachineError
from pipeline.host import heap

ROOT = pathlib.Path(__file__).parents[3]
PROGRAM = """
import multiprocessing, os, signal, sys
sys.path.insert(0, {tests!r})
from absl import flags
from tiny import Noise
from pipeline.data.loading.batches import train_batches
from pipeline.data.sources import open_source

if __name__ == "__main__":
    flags.FLAGS.mark_as_parsed()
    batches = train_batches(open_source("digits", "train", {data_dir!r}), Noise(), batch_size=512, seed=0, workers=2)
    next(batches)
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    {then}
"""


@pytest.fixture
def run(data_dir, tmp_path):
    """Returns a function that runs the program above with its last line, and returns the finished process."""

    def run_program(then: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(tests=str(pathlib.Path(__file__).parents[1]), data_dir=data_dir, then=then))
        return subprocess.run(
            [*prefix, sys.executable, str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    return run_program


def ended(pid: int) -> bool:
    """Waits for a process that is not a child of this one to end; 60 seconds at most."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(60_000))
    return True


def test_a_killed_worker_is_an_error_that_names_its_record(data_dir):
    source = open_source("digits", "train", data_dir)
    batches = eval_batches(source, Noise(die_at=700), batch_size=64, workers=2)
    with pytest.raises(MachineError, match="died of SIGKILL") as caught:
        list(batches)
    assert f"record 700 ({source.describe(700)})" in str(caught.value)
    assert "digits:1.0.0" in str(caught.value)
    assert not multiprocessing.active_children()


def test_batches_outlive_the_worker_that_made_them(data_dir):
    source = open_source("digits", "train", data_dir)
    batches = eval_batches(source, Large(die_at=700), batch_size=64, workers=2)
    first = next(batches)
    with pytest.raises(MachineError, match=r"record 700 \("):
        list(batches)
    with contextlib.closing(eval_batches(source, Large(), batch_size=64)) as expected:
        np.testing.assert_array_equal(first["image"], next(expected)["image"])


def test_a_worker_whose_memory_was_never_seen_names_its_record_too(data_dir, tmp_path):
    source, trace = open_source("digits", "train", data_dir), workers.RecordTrace(str(tmp_path))
    process = multiprocessing.get_context("spawn").Process(target=note_and_die, args=(trace, 5))
    process.start()
    error = workers.failure_of_workers(WorkerGone(process.pid), trace, source)
    assert f"died of SIGKILL at record 5 ({source.describe(5)})" in str(error)


@pytest.mark.parametrize("number", [0, 1])
def test_an_error_in_the_transform_keeps_its_type_and_names_its_record(data_dir, number):
    source = open_source("digits", "train", data_dir)
    with pytest.raises(ZeroDivisionError, match="on purpose") as caught:
        list(eval_batches(source, Noise(fail_at=70), batch_size=64, workers=number))
    assert "while transforming record 70" in caught.value.__notes__
    assert not multiprocessing.active_children()


def test_a_shard_deleted_during_the_run_is_an_error_that_names_it(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / "data")
    source = open_source("digits", "train", str(tmp_path / "data"))
    (tmp_path / "data" / "digits" / "1.0.0" / "digits-train.array_record-00000-of-00001").unlink()
    with pytest.raises(DataError, match=r"Record \d+ of .* cannot be read: .*digits-train.array_record-00000"):
        next(train_batches(source, Noise(), batch_size=64, seed=0, workers=1))


@pytest.mark.parametrize(
    ("size", "message"),
    [("256k", "A data worker died of SIGBUS at record"), ("4k", "The data workers cannot be started")],
)
def test_a_full_shared_memory_is_an_error_that_says_so(run, size, message):
    inside = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && "$0" "$@"')
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small /dev/shm of its own")
    result = run("", prefix=inside)
    assert result.returncode == 1
    assert f"MachineError: {message}" in result.stderr
    assert "/dev/shm is full" in result.stderr


@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("batches.close()", 0),
        ("del batches", 0),
        ("sys.exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_workers_end_with_their_parent_and_leave_no_shared_memory(run, then, code):
    result = run(then)
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    if code >= 0:
        assert "leaked" not in result.stderr
    pids = [int(pid) for pid in result.stdout.split()]
    assert len(pids) == 2
    assert all(map(ended, pids))


@pytest.mark.parametrize("users", [None, "glibc.malloc.arena_max=2"])
def test_workers_keep_memory_unless_the_user_says_otherwise(run, monkeypatch, users):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if users:
        monkeypatch.setenv("GLIBC_TUNABLES", users)
    process = run(
        "[print(open(f'/proc/{process.pid}/environ').read().split(chr(0))) for process in multiprocessing.active_children()]"
    )
    environments = process.stdout.splitlines()[1:]
    assert len(environments) == 2
    for environment in environments:
        for setting in (users or heap.TUNABLES).split(":"):  # glibc takes the variable apart where it lies
            assert setting in environment
        assert users is None or "mmap_threshold" not in environment


def test_ctrl_c_is_the_business_of_the_parent_alone(run):
    result = run("os.killpg(0, signal.SIGINT); print(next(batches)['record'].shape)")
    assert result.stderr.count("KeyboardInterrupt") == 1
    assert "workers" not in result.stderr


def test_a_termination_of_the_whole_group_leaves_the_workers_to_finish(run):
    catch = "signal.signal(signal.SIGTERM, lambda *_: None)"
    result = run(
        f"{catch}; os.killpg(0, signal.SIGTERM); print([next(batches)['record'].shape for _ in range(20)][-1])"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1] == "(512,)"


@pytest.mark.parametrize(
    ("asked", "affinity", "quota", "expected"),
    [(-1, 96, "max 100000", 94), (-1, 96, "800000 100000", 6), (-1, 2, "max 100000", 0), (5, 2, "max 100000", 5)],
)
def test_the_number_of_workers_comes_from_the_cpus(monkeypatch, tmp_path, asked, affinity, quota, expected):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(workers, "_CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    assert workers.worker_count(asked) == expected
