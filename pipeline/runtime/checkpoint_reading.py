"""What a checkpoint holds besides the optimizer, read for any model and on any machine; nothing is ever changed.

Exports and evaluations need parameters and BatchNorm statistics and not the state to restore to, so they read here, as NumPy
arrays on the host. Beside `checkpoints.py` the only importer of orbax.
"""

from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from pipeline.errors import DataError

_WANTED = ("step", "params", "batch_stats", "ema")


def read_variables(directory: str, step: int | None = None) -> tuple[dict[str, Any], dict]:
    """Reads a checkpoint.

    Args:
      directory: That of the checkpoints, a local path or `gs://…`.
      step: Whose checkpoint; without it the newest that can be read, and each newer one is named in the log.

    Returns:
      "step", "params", "batch_stats" and, with moving averages, "ema" as NumPy arrays; and the notes saved with them.

    Raises:
      DataError: there is no such checkpoint, or it cannot be read.
    """
    path = epath.Path(directory)
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
        if not steps:
            raise DataError(f"{directory} holds no checkpoint yet")
        failures = []
        for candidate in reversed(steps if step is None else [step]):
            try:
                return _read(manager, candidate)
            except Exception as error:  # orbax and tensorstore raise whatever the damage led to
                reason = " ".join(str(error).split())[:300]
                failures.append(f"{path / str(candidate)} cannot be read: {type(error).__name__}: {reason}")
                if step is None and candidate != steps[0]:
                    logging.error("%s. Taking the checkpoint before it.", failures[-1])
    raise DataError("; ".join(failures))


def _read(manager: ocp.CheckpointManager, step: int) -> tuple[dict[str, Any], dict]:
    saved = manager.item_metadata(step)["state"].tree
    wanted = {key: saved[key] for key in _WANTED if saved.get(key) is not None}
    state = ocp.args.PyTreeRestore(
        item=jax.tree.map(lambda _: 0, wanted),
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted),
        partial_restore=True,
    )
    restored = manager.restore(step, args=ocp.args.Composite(state=state, notes=ocp.args.JsonRestore()))
    return restored.state, restored.notes
