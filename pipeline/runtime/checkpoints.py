"""Checkpoints of a run: asynchronous, atomic, the newest few and some for good. The only importer of orbax.

A checkpoint `<workdir>/checkpoints/<step>` holds the train state, the resolved configuration and a fingerprint of the data.
A directory that orbax did not commit is never taken for a checkpoint, and nothing damaged is ever deleted or overwritten in
silence.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from pipeline.errors import ConfigError, DataError
from pipeline.training.durations import crossed


class Checkpoints:
    """The checkpoints below one directory (a local path or `gs://…`).

    Use as a context manager: leaving it waits for what is still being written and raises if that failed.
    """

    def __init__(self, directory: str, *, keep: int, keep_every_steps: float = 0.0):
        self._directory = epath.Path(directory)
        self._manager = ocp.CheckpointManager(
            self._directory,
            # Named here, so that a manager which has not saved yet can read what an earlier one did.
            item_handlers={"state": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()},
            options=ocp.CheckpointManagerOptions(
                # The training loop decides when to save, in epochs, so orbax must never decline.
                save_decision_policy=_Always(),
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                    [checkpoint_managers.LatestN(keep), _Landmarks(keep_every_steps)]
                ),
                enable_async_checkpointing=True,
                cleanup_tmp_directories=False,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error) -> None:
        self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, notes: dict) -> bool:
        """Starts saving the state; returns False when this step has a checkpoint already.

        The state may be donated as soon as this returns. `notes` is JSON: configuration, fingerprint of the data.
        """
        if step in self._manager.all_steps():
            return False
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes))
        return self._manager.save(step, args=arguments)

    def wait(self) -> None:
        """Waits until everything is on disk; raises what went wrong in the background."""
        self._manager.wait_until_finished()

    def restore_newest(
        self, abstract_state: Any, check_notes: Callable[[dict], None] = lambda notes: None
    ) -> tuple[Any, dict] | None:
        """Returns the state and the notes of the newest checkpoint that can be read; None when there is no checkpoint.

        A checkpoint that cannot be read is named, with the reason, and the one before it is taken; the unreadable one is
        renamed to `<step>.damaged`, so that its step can be saved anew.

        Args:
          abstract_state: the structure, shapes, dtypes and shardings to restore to; the devices may be others than those
            that the checkpoint was saved from.
          check_notes: is given the notes before the state is read, and raises `ConfigError` when the run may not go on from it.

        Raises:
          ConfigError: what `check_notes` raised.
          DataError: there are checkpoints and none of them can be read.
        """

        def read(step: int) -> tuple[Any, dict]:
            notes = self._manager.restore(step, args=ocp.args.Composite(notes=ocp.args.JsonRestore())).notes
            check_notes(notes)
            self._check_structure(step, abstract_state)
            arguments = ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state))
            return self._manager.restore(step, args=arguments).state, notes

        steps = self.steps()
        found = _newest_readable(self._directory, steps, read)
        if found is None:
            return None
        step, restored = found
        self._set_aside([other for other in steps if other > step])
        return restored

    def _check_structure(self, step: int, abstract_state: Any) -> None:
        """Raises when an array is missing, unknown or of another shape or dtype (orbax would cast in silence)."""
        expected = _arrays_by_path(abstract_state)
        found = _arrays_by_path(self._manager.item_metadata(step)["state"].tree)
        differences = [
            f"{path} is {found.get(path, 'missing')}, expected {expected.get(path, 'no such array')}"
            for path in sorted(expected.keys() | found.keys())
            if expected.get(path) != found.get(path)
        ]
        if differences:
            more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise DataError("; ".join(differences[:3]) + more)

    def _set_aside(self, steps: Sequence[int]) -> None:
        if not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                (self._directory / str(step)).rename(self._directory / f"{step}.damaged")
        multihost_utils.sync_global_devices("damaged checkpoints set aside")
        self._manager.reload()


def _arrays_by_path(tree: Any) -> dict[str, str]:
    """Returns "dtype[shape]" of each array by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def read_variables(directory: str, step: int | None = None) -> tuple[dict[str, Any], dict]:
    """Reads what a checkpoint holds besides the optimizer, for any model and on any machine; changes nothing.

    Args:
      directory: that of the checkpoints, a local path or `gs://…`.
      step: whose checkpoint; without it the newest that can be read, and any newer one is named in the log.

    Returns:
      "step", "params", "batch_stats" and, with moving averages, "ema" as NumPy arrays; and the notes that were saved with them.

    Raises:
      DataError: there is no such checkpoint, or it cannot be read.
    """
    path = epath.Path(directory)
    if not path.exists():
        raise DataError(f"{directory} does not exist: no checkpoint has been saved there")
    options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(path, options=options, item_handlers=handlers) as manager:
        steps = sorted(manager.all_steps())
        if step is not None and step not in steps:
            raise DataError(
                f"{directory} has no checkpoint of step {step}; it has {', '.join(map(str, steps)) or 'none'}"
            )
        wanted_steps = steps if step is None else [step]
        found = _newest_readable(path, wanted_steps, lambda wanted: _read_variables(manager, wanted))
    if found is None:
        raise DataError(f"{directory} holds no checkpoint yet")
    return found[1]


def _read_variables(manager: ocp.CheckpointManager, step: int) -> tuple[dict[str, Any], dict]:
    saved = manager.item_metadata(step)["state"].tree
    wanted = {key: saved[key] for key in ("step", "params", "batch_stats", "ema") if saved.get(key) is not None}
    state = ocp.args.PyTreeRestore(
        item=jax.tree.map(lambda _: 0, wanted),
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted),
        partial_restore=True,
    )
    restored = manager.restore(step, args=ocp.args.Composite(state=state, notes=ocp.args.JsonRestore()))
    return restored.state, restored.notes


def _newest_readable(directory: epath.Path, steps: Sequence[int], read: Callable[[int], Any]) -> tuple[int, Any] | None:
    """Returns the newest step that can be read and what `read` gives for it; None without steps; raises `DataError`."""
    failures = []
    for step in reversed(steps):
        try:
            return step, read(step)
        except ConfigError:
            raise
        except Exception as error:  # orbax and tensorstore raise whatever the damage led to
            reason = " ".join(str(error).split())[:400]
            failures.append(f"{directory / str(step)} cannot be read: {type(error).__name__}: {reason}")
            logging.error("%s%s", failures[-1], "" if step == steps[0] else ". Taking the checkpoint before it")
    if failures:
        raise DataError("no checkpoint can be read:\n  " + "\n  ".join(failures))
    return None


class _Always(checkpoint_managers.SaveDecisionPolicy):
    """Saves whenever it is asked to."""

    def should_save(self, step, previous_steps, *, context) -> bool:
        del step, previous_steps, context
        return True


class _Landmarks(checkpoint_managers.PreservationPolicy):
    """Keeps, for good, the first checkpoint at or after each multiple of a number of steps."""

    def __init__(self, every_steps: float):
        self._every_steps = every_steps

    def should_preserve(self, checkpoints: Sequence[Any], *, context) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        return [crossed(step, self._every_steps, since=before) for before, step in zip([0, *steps], steps)]
