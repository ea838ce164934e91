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
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, stdout=-1, stderr=-1, text=True
    )


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_of_four_processes_one_at_a_time_has_it(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [start(COUNT, tmp_path / "run.lock", tmp_path / "count") for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "800"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


@pytest.mark.parametrize(
    "what", ["mv {0}/run {0}/elsewhere", "rm -r {0}/run", "rm {0}/run/run.lock", "mv {0}/run {0}/x && mkdir {0}/run"]
)
def test_a_holder_whose_folder_is_gone_ends(tmp_path, what):
    (tmp_path / "run").mkdir()
    watching = FOR_EVER.replace("locking.held(sys.argv[1])", "files.held(sys.argv[1], watch_seconds=0.05)")
    process = start("from pipeline.host.locking import files\n" + watching, tmp_path / "run" / "run.lock")
    wait_for(process, "held")
    subprocess.run(["sh", "-c", what.format(tmp_path)], check=True)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 71
    assert (
        errors == f"Error: {tmp_path}/run was moved or removed while this process wrote to it: ending here, unsaved\n"
    )


def test_a_directory_that_was_replaced_meanwhile_keeps_what_is_in_it(tmp_path):
    (tmp_path / "a").mkdir()
    with locking.held(str(tmp_path / "a" / "run.lock")):
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        with locking.held(str(tmp_path / "a" / "run.lock")):
            pass
        (tmp_path / "a" / "run.lock").write_text("another's")
    assert (tmp_path / "a" / "run.lock").read_text() == "another's"
