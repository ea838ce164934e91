"""Stands for the process of a trial: it ends with its parent as that one does, and has the trainer forked.

Run as forked_trial.py SOCKET ARGUMENT…, with the socket of `Trainers` and the arguments of `pipeline.train`.
"""

import pathlib
import runpy
import sys

root = pathlib.Path(__file__).resolve().parents[2]
sys.path[0] = str(root)
from pipeline.trials import trial_process  # noqa: E402 - it is found by the line above

trial_process.end_with_parent()
address, *arguments = sys.argv[1:]
sys.argv = ["fork_client.py", address, "-m", "pipeline.train", *arguments]
runpy.run_path(str(root / "tests" / "fork_client.py"), run_name="__main__")
