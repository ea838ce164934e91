"""Processes that are forked from one that has imported everything, beside those that `subprocess` starts."""

import os
import signal
import subprocess
import sys

import pytest

from tests import forks
from tests.forks import ROOT, Fork
from tests.runs import wait_for

CODE = """
import atexit, os, sys
atexit.register(print, "at the end")
print(sys.argv, os.getcwd(), os.environ["GIVEN"], sys.stdin.read(), __name__, sys.modules["__main__"].__dict__ is globals())
print("to stderr", file=sys.stderr)
"""


@pytest.mark.parametrize(
    "last", ["", "sys.exit(3)", "sys.exit('words')", "raise ValueError('why')", "os.kill(os.getpid(), 9)"]
)
def test_a_fork_ends_as_a_process_of_its_own_does(last):
    """With the same code, the same words in the same streams, and what is registered for the end."""
    found = forks.run("-c", CODE + last, "an argument", text=b"the input", GIVEN="a value")
    command = [sys.executable, "-c", CODE + last, "an argument"]
    expected = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "GIVEN": "a value"}, input="the input", capture_output=True, text=True
    )
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)
    assert found.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]  # of a traceback the end


def test_signals_reach_a_fork_and_its_end_is_seen():
    code = (
        "import time\ntry:\n print('ready', flush=True)\n time.sleep(600)\nexcept KeyboardInterrupt:\n print('asked')"
    )
    process = Fork(["-c", code], dict(os.environ))
    wait_for(process, "ready")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=600) == ("asked\n", None)
    process = Fork(["-c", code], dict(os.environ))
    wait_for(process, "ready")
    process.kill()
    assert process.wait(timeout=600) == -signal.SIGKILL


def test_a_fork_takes_its_devices_and_variables_from_its_own_environment():
    code = "import jax; print(jax.device_count(), jax.config.jax_compilation_cache_dir)"
    for devices, folder in ((3, "/tmp/one"), (2, "/tmp/other")):
        flags = f"--xla_force_host_platform_device_count={devices}"
        found = forks.run("-c", code, XLA_FLAGS=flags, JAX_COMPILATION_CACHE_DIR=folder)
        assert found.stdout == f"{devices} {folder}\n", found.stderr
