"""Locks on a disk, between real processes."""

import signal
import subprocess
import sys

import pytest

from pipeline.errors import ConfigError
from pipeline.host import locking
from tests.runs import ROOT, wait_for

HOLD = "import sys, time\nfrom pipeline.host import locking\nwith locking.held(sys.argv[1]):\n    "
FOR_EVER = HOLD + "print('held', flush=True); time.sleep(1000)"
# Takes the lock 200 times and counts in a file; a second holder would make a count be lost.
COUNT = """
import sys
from pipeline.host import locking
from pipeline.errors import ConfigError
done = 0
while done < 200:
    try:
        with locking.held(sys.argv[1]):
            with open(sys.argv[2], "r+") as file:
                number = int(file.read())
                file.seek(0)
                file.write(str(number + 1))
            done += 1
    except ConfigError:
        pass
"""


def start(code: str, *arguments) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=-1, text=True)


@pytest.fixture
def holder(tmp_path):
    process = start(FOR_EVER, tmp_path / "run.lock")
    wait_for(process, "held")
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_holds_the_lock(holder, tmp_path):
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(ConfigError, match=f"{tmp_path} is in use by process {holder.pid} on .*, since 20"):
            locking.held(str(tmp_path / "run.lock")).__enter__()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_a_killed_process_leaves_no_lock(holder, tmp_path, number):
    holder.send_signal(number)
    holder.wait()
    assert (tmp_path / "run.lock").exists()
    with locking.held(str(tmp_path / "run.lock")):
        pass
    assert not (tmp_path / "run.lock").exists()


def test_a_child_does_not_keep_the_lock_of_its_killed_parent(tmp_path):
    child = (
        "import subprocess, sys\n"
        + HOLD
        + ("child = subprocess.Popen(['sleep', '1000']); print(child.pid, 'held', flush=True); child.wait()")
    )
    process = start(child, tmp_path / "run.lock")
    pid = int(wait_for(process, "held").split()[0])
    process.kill()
    process.wait()
    try:
        with locking.held(str(tmp_path / "run.lock")):
            pass
    finally:
        subprocess.run(["kill", str(pid)], check=True)


def test_of_four_processes_one_at_a_time_has_it(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [start(COUNT, tmp_path / "run.lock", tmp_path / "count") for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "800"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_directory_that_was_replaced_meanwhile_keeps_what_is_in_it(tmp_path):
    (tmp_path / "a").mkdir()
    with locking.held(str(tmp_path / "a" / "run.lock")):
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        with locking.held(str(tmp_path / "a" / "run.lock")):
            pass
        (tmp_path / "a" / "run.lock").write_text("another's")
    assert (tmp_path / "a" / "run.lock").read_text() == "another's"
