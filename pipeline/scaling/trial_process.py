"""`python -m pipeline.train` in a process that ends with the one that started it.

A study that is killed must not leave a run behind that holds the folder of its trial; the run would be continued by the next
start, which finds it in use. Linux tells a child of its parent's death; elsewhere the child goes on.
"""

import ctypes
import os
import runpy
import signal
import sys

PARENT = "PIPELINE_SCALING_PARENT"  # the process id of the study
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def _end_with_parent() -> None:
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if str(os.getppid()) != os.environ.get(PARENT, str(os.getppid())):  # it died before the kernel was asked
        os._exit(os.EX_TEMPFAIL)


if __name__ == "__main__":
    _end_with_parent()
    runpy.run_module("pipeline.train", run_name="__main__", alter_sys=True)
