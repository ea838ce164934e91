"""`launch/simulated_pod.sh`: real processes that join, and how their ends become one."""

import os
import signal
import subprocess

import pytest
from test_local import make_ready

TRAINER = """
import os, signal, sys, time
index = int(sys.argv[-1].partition("=")[2])
print("flags", os.environ["XLA_FLAGS"], flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
if index == int(os.environ.get("FAILS", -1)):
    sys.exit(70)
while os.environ.get("HOLD"):
    time.sleep(0.01)
"""


def start(checkout, **environment):
    """Starts three processes of two devices."""
    (checkout / "pipeline" / "train.py").write_text(TRAINER)
    make_ready(checkout)
    return subprocess.Popen(
        [
            str(checkout / "launch" / "simulated_pod.sh"),
            *("--processes", "3", "--devices-per-process=2", "--", "--workdir", "out", "--config.a=b c"),
        ],
        cwd=checkout,
        env=os.environ | {"MOMENT_SECONDS": "0"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ends_when_all_have_ended(checkout):
    process = start(checkout)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    for index in range(3):
        log = (checkout / "out" / "logs" / f"process-{index}.log").read_text()
        assert "--xla_force_host_platform_device_count=2" in log
    assert "device_count=2" in output


@pytest.mark.parametrize("index", [0, 2])
def test_the_first_failure_ends_the_others_and_is_the_status(checkout, index):
    process = start(checkout, FAILS=str(index), HOLD="yes")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 70
    assert f"process {index} ended first with status 70" in error


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])  # Ctrl-C, and a terminal that is closed
def test_interrupting_it_asks_all_to_save(checkout, how):
    process = start(checkout, HOLD="yes")
    assert "flags" in process.stdout.readline()
    process.send_signal(how)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 75, error
