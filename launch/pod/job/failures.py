"""Classifies the end of a trainer by its exit code, and by its log if the code says too little.

The exit codes are those of `pipeline/errors.py`. `job_ends.py` decides what follows.
"""

from __future__ import annotations

import re

# The kinds. The first six have exit codes of their own; "lost" has none, as when a machine goes down.
FINISHED, PREEMPTED, CONFIGURATION, DATA, TRAINING = "finished", "preempted", "configuration", "data", "training"
MEMORY, TPU, CRASH, LOST = "memory", "tpu", "crash", "lost"

_CODES = {0: FINISHED, 65: DATA, 70: TRAINING, 75: PREEMPTED, 78: CONFIGURATION}

# Messages of XLA and libtpu about a program that does not fit the accelerator's memory.
_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|CompileTimeHbmOom|Out of memory (while|allocating)|out of HBM")

# Messages of libtpu, JAX and the trainer about an unavailable accelerator.
_TPU = re.compile(
    r"/dev/(vfio|accel)\S* *: *(Device or resource busy|No such file)"
    r"|open\(/dev/(vfio|accel)[^)]*\): *Device or resource busy"
    r"|Couldn't open iommu group|iommu group.*(busy|in use)"
    r"|The TPU is already in use"
    r"|Unable to initialize backend 'tpu'"
    r"|TPU (platform )?initialization failed|Failed to initialize TPU|No TPU devices? (were |was )?found"
    r"|Failed to get global TPU topology"
    r"|config\.platform='tpu', but JAX found",
    re.IGNORECASE,
)

_STEP = re.compile(r"^step +([\d,]+)/[\d,]+ ", re.MULTILINE)


def kind_of(exit_code: int | None, log: str, asked: bool = False) -> str:
    """Returns the kind of an end.

    Args:
      exit_code: the trainer's exit code, or None. A signal's may be negative, or 128 plus its number.
      log: the end of the trainer's log.
      asked: whether it was asked to save and end. Until it can do so, SIGTERM ends it like any program, with nothing to save.
    """
    if exit_code is None:
        return LOST
    if asked and exit_code in (-15, 128 + 15):
        return PREEMPTED
    if exit_code in _CODES:
        return _CODES[exit_code]
    if _TPU.search(log) and not last_step(log):
        return TPU
    if _MEMORY.search(log):
        return MEMORY
    return CRASH


def last_step(log: str) -> int:
    """Returns the highest step that a part of a log reports; 0 if there is none."""
    return max((int(step.replace(",", "")) for step in _STEP.findall(log)), default=0)
