"""Runs `python -m pipeline.train` in a process that ends with its parent.

Without this, a killed study would leave a run behind that locks the folder of its trial, and the next start could not
continue it. Only Linux can end a child with its parent; on other systems the child goes on.
"""

import ctypes
import os
import runpy
import signal
import sys

PARENT = "PIPELINE_SCALING_PARENT"  # the process id of the study
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_with_parent() -> None:
    """Has this process killed when its parent ends, and ends it if that has happened already."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != os.environ.get(PARENT, str(os.getppid())):  # the parent died before the call above
        os._exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("pipeline.train", run_name="__main__", alter_sys=True)
