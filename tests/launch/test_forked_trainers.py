"""What a machine starts in place of a trainer: it looks, obeys and ends as the process that it stands for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cloud.machines import processes
from cloud.services import wait_until

from tests import trainers
from tests.forks import ROOT

SAVES = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), os._exit(75)))
print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def address():
    made = trainers.Trainers()
    yield made.address
    made.close()


def start(address: str, code: str, folder: Path = ROOT, **environment: str) -> subprocess.Popen:
    """Starts `python -c code` by way of the client, in a session of its own, as the launcher does."""
    return subprocess.Popen(
        [sys.executable, "-SE", str(trainers.CLIENT), address, "-c", code],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(75)", 75), ("os.kill(os.getpid(), 9)", -9), ("os.abort()", -6)]
)
def test_it_ends_as_the_trainer_does(address, end, code):
    process = start(address, f"import os, sys; print(os.environ['GIVEN'], os.getcwd(), flush=True); {end}", GIVEN="a=b")
    assert process.communicate(timeout=600)[0] == f"a=b {ROOT}\n"
    assert process.returncode == code


def test_a_signal_reaches_the_trainer(address):
    process = start(address, SAVES)
    assert int(process.stdout.readline()) != process.pid
    process.terminate()
    assert process.communicate(timeout=600)[0] == "saved\n"
    assert process.returncode == 75


def test_with_it_the_trainer_and_what_it_started_are_killed(address):
    children = "import subprocess; subprocess.Popen(['sleep', '600'])"
    name = f"a-machine-{time.time_ns()}"
    process = start(address, f"{children}\n{SAVES}", BED_MACHINE=name)
    trainer = int(process.stdout.readline())
    assert {process.pid, trainer} < set(processes([name]))
    assert os.getsid(trainer) == trainer
    assert len(processes([name])) == 3
    os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: processes([name]) == [])
    assert process.wait() == -signal.SIGKILL
    assert process.stdout.read() == ""


def test_a_machine_that_is_turned_off_ends_both(address):
    """By the variable that says whose they are, and not one through the other."""
    name = f"a-machine-{time.time_ns()}"
    process = start(address, SAVES, BED_MACHINE=name)
    trainer = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(trainer, signal.SIGKILL)
    wait_until(lambda: processes([name]) == [process.pid])
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(timeout=600) == -signal.SIGKILL


def test_other_code_than_what_was_imported_is_refused(address, tmp_path):
    for package in ("pipeline", "configs"):
        subprocess.run(["cp", "-r", str(ROOT / package), str(tmp_path)], check=True)
    process = start(address, "import os; print(os.getcwd())", tmp_path)
    assert process.communicate(timeout=600)[0] == f"{tmp_path}\n"
    with (tmp_path / "pipeline" / "train.py").open("a") as module:
        module.write("# changed\n")
    process = start(address, "print('runs')", tmp_path)
    assert process.communicate(timeout=600)[0].startswith(
        f"{tmp_path}/pipeline/train.py is not the code that was imported"
    )
    assert process.returncode == 1
