"""Locks in a bucket, against a server of Cloud Storage's protocol, with heartbeats of hundredths of a second."""

import dataclasses
import os
import subprocess
import sys
import threading

import pytest

from pipeline.errors import ConfigError
from pipeline.host.locking import bucket, objects
from pipeline.host.locking.owner import Owner
from tests.runs import ROOT, wait_until

FAST = {"heartbeat_seconds": 0.02, "stale_seconds": 3.0}
PATH = "gs://bucket/run/run.lock"


@pytest.fixture
def store(server):
    """The bucket, with a free lock."""
    store = bucket.Bucket()
    found = store.read(PATH)
    if found:
        store.write(PATH, b"", found[1])
    return store


def left_by(store, **changes) -> Owner:
    """Leaves a lock behind, as a holder that is gone does."""
    owner = dataclasses.replace(Owner.this_process(), **changes)
    found = store.read(PATH)
    store.write(PATH, owner.to_json(), found[1] if found else objects.ABSENT)
    return owner


def test_a_living_holder_is_told_by_its_heartbeat(store):
    with objects.held(store, PATH, **FAST):
        before = store.read(PATH)[1]
        with pytest.raises(ConfigError, match=f"gs://bucket/run is in use by process {os.getpid()} on "):
            objects.held(store, PATH, **FAST).__enter__()
        assert store.read(PATH)[1] != before
    with objects.held(store, PATH, **FAST):  # let go
        pass
    assert store.read(PATH)[0] == b""


def test_a_silent_holder_on_another_machine_is_waited_for_and_replaced(store):
    left_by(store, host="gone", boot="another machine's")
    with objects.held(store, PATH, heartbeat_seconds=0.02, stale_seconds=0.1):
        assert Owner.from_json(store.read(PATH)[0]).pid == os.getpid()


def test_a_dead_process_of_this_machine_is_not_waited_for(store):
    left_by(store, started=1)  # the number was given again: not the process that it was
    with objects.held(store, PATH, heartbeat_seconds=0.02, stale_seconds=1e6):
        assert Owner.from_json(store.read(PATH)[0]).started != 1


def test_of_many_that_want_a_lock_that_was_left_one_has_it(store):
    left_by(store, started=1)
    held, refused = [], []
    everyone_tried, all_have_read, one_at_a_time = threading.Event(), threading.Barrier(5), threading.Lock()

    class InTurns:
        """Has all find the lock that was left before one of them writes; fake-gcs-server cannot compare and write at once."""

        def __init__(self):
            self._first = True

        def read(self, name):
            found = store.read(name)
            if self._first:
                self._first = False
                all_have_read.wait(60)
            return found

        def write(self, *arguments):
            with one_at_a_time:
                return store.write(*arguments)

    def want():
        try:
            with objects.held(InTurns(), PATH, **FAST):
                held.append(1)
                everyone_tried.wait(60)
        except ConfigError:
            refused.append(1)
            if len(refused) == 4:
                everyone_tried.set()

    threads = [threading.Thread(target=want) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 4)


def test_a_write_without_an_answer_is_known_again(store):
    class Deaf:
        """Loses the answers to the first writes, which are then tried again as clients do."""

        writes = 0

        def read(self, name):
            return store.read(name)

        def write(self, name, content, generation):
            self.writes += 1
            written = store.write(name, content, generation)
            if self.writes in (1, 3):
                store.write(name, content, generation)
            return written

    deaf = Deaf()
    with objects.held(deaf, PATH, **FAST):
        assert wait_until(lambda: deaf.writes > 5, [])
    assert store.read(PATH)[0] == b""


def test_a_holder_that_lost_its_lock_ends(store):
    code = (
        "import time\nfrom pipeline.host.locking import bucket, objects\n"
        f"with objects.held(bucket.Bucket(), {PATH!r}, heartbeat_seconds=0.1):\n    time.sleep(1000)\n"
    )
    options = {"cwd": ROOT, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], **options)
    assert wait_until(lambda: bool(store.read(PATH)[0]), [process])
    while True:
        try:
            left_by(store, token="another's", pid=12345)
            break
        except objects.Changed:  # it was faster
            continue
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 71
    assert errors.startswith(f"Error: {PATH} was taken over by process 12345 on ")


def test_a_bucket_that_is_not_there_is_one_error(store):
    with pytest.raises(ConfigError, match="there is no bucket no-such-bucket"):
        objects.held(store, "gs://no-such-bucket/run.lock", **FAST).__enter__()
