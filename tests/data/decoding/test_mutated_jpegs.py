"""JPEGs with wrong bytes: a clear error or pixels, in time, and no memory outside the arrays."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent


@pytest.mark.slow
def test_of_two_thousand_mutations_each_is_decoded_or_damaged(tmp_path):
    """Numba compiles anew, with a check of each index, which raises IndexError."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE}:{HERE.parents[2]}",
        "NUMBA_BOUNDSCHECK": "1",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, str(HERE / "mutated_jpegs.py"), "2000", "0"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    assert result.returncode == 0, result.stderr
    outcomes = ast.literal_eval(result.stdout)
    assert outcomes["decoded"] + outcomes["damaged"] == 2000
    assert min(outcomes.values()) > 200  # also by their index
