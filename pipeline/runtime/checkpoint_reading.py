"""Reads the variables of a checkpoint, for any model and on any machine, as NumPy arrays on the host.

Exports and evaluations need the parameters and the BatchNorm statistics without the optimizer and without a state to restore
into. Reading changes nothing. This module, `checkpoints.py` and `orbax_paths.py` are the only importers of orbax.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.host.paths import absolute
from pipeline.runtime import orbax_paths
from pipeline.storage import storage_errors

_WANTED = ("step", "params", "batch_stats", "ema")


def read_variables(directory: str, step: int | None = None) -> tuple[dict[str, Any], dict]:
    """Reads a checkpoint.

    Args:
      directory: The directory of the checkpoints, a local path or `gs://…`.
      step: The step to read; by default the newest that is readable. Newer ones are named in the log.

    Returns:
      "step", "params", "batch_stats" and, with moving averages, "ema" as NumPy arrays; and the saved metadata.

    Raises:
      DataError: there is no such checkpoint, or it is damaged.
      ConfigError, MachineError: storage failed.
    """
    orbax_paths.mend()
    path = epath.Path(absolute(directory))  # orbax refuses a relative one, which would look like damage
    if not path.exists():
        raise DataError(f"{directory} does not exist: no checkpoint has been saved there yet")
    options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(path, options=options, item_handlers=handlers) as manager:
        steps = sorted(manager.all_steps())
        if step is not None and step not in steps:
            raise DataError(
                f"{directory} has no checkpoint of step {step}; it has {', '.join(map(str, steps)) or 'none'}"
            )
        found = newest_readable(
            path,
            steps if step is None else [step],
            lambda candidate: read_checked(path / str(candidate), lambda: _read(manager, candidate)),
        )
    if found is None:
        raise DataError(f"{directory} holds no checkpoint yet")
    return found[1]


def newest_readable(directory: epath.Path, steps: Sequence[int], read: Callable[[int], Any]) -> tuple[int, Any] | None:
    """Returns the newest readable step and the result of `read` for it; None if there are no steps.

    A damaged step is named in the log with the reason, and the one before it is tried.

    Args:
      directory: the directory of the checkpoints.
      steps: the steps, in ascending order.
      read: reads a step and raises `DataError` if it is damaged; see `read_checked`.

    Raises:
      DataError: all steps are damaged.
      ConfigError, MachineError: raised by `read`; neither means damage, so no other step is tried.
    """
    failures = []
    for step in reversed(steps):
        try:
            return step, read(step)
        except DataError as error:
            failures.append(f"{directory / str(step)} cannot be read: {error}")
            logging.error("%s%s", failures[-1], "" if step == steps[0] else ". Taking the checkpoint before it")
    if failures:
        raise DataError("no checkpoint can be read:\n  " + "\n  ".join(failures))
    return None


def read_checked(path: epath.Path, read: Callable[[], Any]) -> Any:
    """Returns the result of `read` for a checkpoint; distinguishes damage from storage failures.

    A checkpoint is damaged if every byte of it can be read and it is wrong nevertheless.

    Raises:
      DataError: the checkpoint is damaged or has another structure.
      MachineError: storage failed, also after several attempts with pauses.
      ConfigError: raised by `read`, for example because the metadata are refused.
    """
    failure: Exception = MachineError(f"{path} was not read")
    for _ in storage_errors.attempts():
        try:
            return read()
        except (ConfigError, MachineError):
            raise
        except Exception as error:  # damage makes orbax and tensorstore raise errors of many types
            failure = error
        if not storage_errors.is_storage_failure(failure):
            storage_errors.read_whole(path)
            break
        logging.warning("%s: %s", path, storage_errors.reason(failure))
    else:
        raise storage_errors.failure_of(failure, path) from failure
    try:
        return read()  # a storage failure has passed by now
    except (ConfigError, MachineError, DataError):
        raise
    except Exception as error:
        if storage_errors.is_storage_failure(error):
            raise storage_errors.failure_of(error, path) from error
        raise DataError(storage_errors.reason(error)) from error


def _read(manager: ocp.CheckpointManager, step: int) -> tuple[dict[str, Any], dict]:
    saved = manager.item_metadata(step)["state"].tree
    wanted = {key: saved[key] for key in _WANTED if saved.get(key) is not None}
    state = ocp.args.PyTreeRestore(
        item=jax.tree.map(lambda _: 0, wanted),
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted),
        partial_restore=True,
    )
    restored = manager.restore(step, args=ocp.args.Composite(state=state, notes=ocp.args.JsonRestore()))
    return restored["state"], restored["notes"]
