"""Copies of a dataset on this machine: what is read while they come, what they cost, and what stops them."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipeline.data.loading.batches import train_batches
from pipeline.data.preparation.datasets import prepare_digits
from pipeline.data.sources import open_source, stage
from pipeline.errors import ConfigError, DataError
from pipeline.storage import objects, staging, storage_errors, transfer
from tests.data.tiny import Noise
from tests.storage.faults import Fault

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def local_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare_digits(str(folder))
    return folder


@pytest.fixture(scope="module")
def data_dir(running_server, local_dir):
    for path in sorted(local_dir.rglob("*")):
        if path.is_file():
            objects.write(f"gs://bucket/staged/{path.relative_to(local_dir)}", path.read_bytes())
    return "gs://bucket/staged"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(storage_errors, "PAUSES_SECONDS", (0.0, 0.0))


def reads_of_data(server, first=0):
    return [
        request for request in server.requests[first:] if "array_record" in request.object and request.kind == "read"
    ]


def batches_of(source, steps):
    batches = train_batches(source, Noise(), batch_size=64, seed=3)
    taken = [next(batches) for _ in range(steps)]
    batches.close()
    return taken


def same(left, right):
    for one, other in zip(left, right, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.slow
def test_batches_are_the_same_before_during_and_after(server, data_dir, local_dir, tmp_path):
    expected = batches_of(open_source("digits", "train", str(local_dir)), 30)
    source = open_source("digits", "train", data_dir)
    same(batches_of(source, 3), expected[:3])
    staged = stage("disk", [source], str(tmp_path))
    same(batches_of(source, 30), expected)
    assert staged.wait()
    first = len(server.requests)
    same(batches_of(source, 30), expected)
    assert reads_of_data(server, first) == []
    staged.remove()


def test_an_image_costs_far_less_than_a_fiftieth_of_a_request(server, data_dir, tmp_path):
    source = open_source("digits", "train", data_dir)
    first = len(server.requests)
    staged = stage("disk", [source], str(tmp_path))
    assert staged.wait()
    epochs = 2
    for _ in range(epochs):
        for record in range(len(source)):
            source.read(record)
    assert len(reads_of_data(server, first)) / (epochs * len(source)) < 0.02
    staged.remove()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["reset before", "cut", "503", "429", "slow"])
def test_a_fault_while_copying_changes_nothing(fault, server, data_dir, tmp_path):
    source = open_source("digits", "train", data_dir)
    left = [fault]
    server.fault = lambda request: (
        Fault(left.pop()) if left and request.client == "tensorstore" and request.kind == "read" else None
    )
    staged = stage("disk", [source], str(tmp_path))
    assert staged.wait()
    assert not left
    for shard in source.shards:
        copy = pathlib.Path(staged.files.copy_of(shard.filename))
        assert copy.read_bytes() == objects.read(shard.filename)
    staged.remove()
    assert list(tmp_path.rglob("*.array_record*")) == []


def test_bytes_that_are_not_the_buckets_are_not_taken(server, data_dir, tmp_path, monkeypatch, caplog):
    source = open_source("digits", "test", data_dir)
    whole = transfer.pieces
    monkeypatch.setattr(transfer, "pieces", lambda file: (piece[:-1] + b"!" for piece in whole(file)))
    staged = stage("disk", [source], str(tmp_path))
    assert not staged.wait()
    assert "did not arrive as it is in the bucket" in caplog.text
    assert source.read(0)  # from the bucket
    staged.remove()


def test_a_shard_that_is_replaced_meanwhile_is_named(server, data_dir, tmp_path):
    source = open_source("digits", "test", data_dir)
    shard = source.shards[0].filename
    changed = []

    def replace(request):
        if request.client == "tensorstore" and not changed:
            changed.append(request)
            server._ask(
                "POST", f"/upload/storage/v1/b/bucket/o?uploadType=media&name={objects.split(shard)[1]}", b"new"
            )

    content = objects.read(shard)
    server.fault = replace
    staged = stage("disk", [source], str(tmp_path))
    assert not staged.wait()
    with pytest.raises(DataError, match=f"{shard} was changed while it was read: something is writing to the dataset"):
        staged.raise_changed()
    staged.remove()
    objects.write(shard, content)


def test_no_room_is_refused_before_anything_is_copied(server, data_dir, tmp_path, monkeypatch):
    source = open_source("digits", "train", data_dir)
    monkeypatch.setattr(staging, "_room", lambda place, folder: 1000.0)
    with pytest.raises(ConfigError, match=r"config.data.stage='memory': .* has room for 0.0 GB.*'disk', 'none'"):
        stage("memory", [source], str(tmp_path))


def test_what_a_killed_run_left_is_used_and_of_other_data_deleted(server, data_dir, tmp_path):
    train, test = open_source("digits", "train", data_dir), open_source("digits", "test", data_dir)
    staged = stage("disk", [train], str(tmp_path))
    assert staged.wait()
    staged.close()  # as the end of the process does
    first = len(server.requests)
    again = stage("disk", [train], str(tmp_path))
    assert again.wait()
    assert reads_of_data(server, first) == []
    other = stage("disk", [test], str(tmp_path))
    assert other.wait()
    assert train.read(0)
    assert pathlib.Path(again.files.folder).exists()  # a process uses it
    again.close()
    other.close()
    last = stage("disk", [test], str(tmp_path))
    assert last.wait()
    assert not pathlib.Path(again.files.folder).exists()
    last.remove()


WAITER = """
import sys
from pipeline.storage.staging import Staging
staging = Staging("disk", sys.argv[2:], root=sys.argv[1])
print("ready", flush=True)
print(staging.wait(), flush=True)
"""


@pytest.mark.slow
def test_of_two_processes_one_copies_and_the_other_takes_over_when_it_is_gone(server, data_dir, tmp_path):
    source = open_source("digits", "train", data_dir)
    paths = [shard.filename for shard in source.shards]
    first = len(server.requests)
    staged = stage("disk", [source], str(tmp_path))
    assert staged.wait()
    other = subprocess.Popen(
        [sys.executable, "-c", WAITER, str(tmp_path), *paths],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert other.stdout.readline() == "ready\n"
    os.unlink(staged.files.copy_of(paths[0]))
    copied = len(reads_of_data(server, first))
    staged.close()
    assert other.communicate(timeout=120)[0] == "True\n"
    assert len(reads_of_data(server, first)) > copied
    assert staged.files.copy_of(paths[0])


def test_a_split_of_a_part_reads_its_own_records(server, data_dir, local_dir, tmp_path):
    local = open_source("digits", "train[10%:20%]+test[:5]", str(local_dir))
    remote = open_source("digits", "train[10%:20%]+test[:5]", data_dir)
    staged = stage("disk", [remote], str(tmp_path))
    assert staged.wait()
    assert len(remote) == len(local) > 100
    assert [remote.read(record) for record in range(len(local))] == [local.read(record) for record in range(len(local))]
    assert remote.fingerprint == local.fingerprint
    assert json.dumps(remote.shards[0].skip) == json.dumps(local.shards[0].skip)
    staged.remove()


def test_a_copy_that_a_power_cut_left_without_its_end_is_copied_again(server, data_dir, tmp_path):
    source = open_source("digits", "test", data_dir)
    shard = source.shards[0].filename
    staged = stage("disk", [source], str(tmp_path))
    assert staged.wait()
    staged.close()
    os.truncate(staged.files.copy_of(shard), 0)
    again = stage("disk", [source], str(tmp_path))
    assert again.wait()
    assert pathlib.Path(again.files.copy_of(shard)).read_bytes() == objects.read(shard)
    again.remove()


def test_another_users_copies_are_left_alone(server, data_dir, tmp_path, monkeypatch):
    source = open_source("digits", "test", data_dir)
    theirs = stage("disk", [source], str(tmp_path))
    assert theirs.wait()
    theirs.close()
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    ours = stage("disk", [source], str(tmp_path))
    assert ours.wait()
    assert pathlib.Path(ours.files.folder).parent == tmp_path / "efficientnet-staged-54321"
    ours.remove()
    assert theirs.files.copy_of(source.shards[0].filename)


@pytest.mark.parametrize(
    ("limit", "room"), [("max", None), (str(20 * 1024**3), 6 * 1024**3), (str(9 * 1024**3), 0), (None, None)]
)
def test_files_in_memory_stay_within_the_limit_of_a_container(tmp_path, monkeypatch, limit, room):
    """7 GiB are in use, of which the kernel would give 1 GiB up; 8 GiB stay free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 50, 0, 1 << 50))
    monkeypatch.setattr(staging, "_MEMORY_FILE", str(tmp_path / "meminfo"))
    (tmp_path / "meminfo").write_text(f"MemAvailable: {1 << 30} kB\n")
    monkeypatch.setattr(staging, "_CONTAINER", tmp_path)
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{7 * 1024**3}\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {1 << 30}\n")
    expected = (1 << 40) - 8 * 1024**3 if room is None else room
    assert staging._room("memory", tmp_path) == expected
