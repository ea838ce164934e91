"""Checkpoints of a run: asynchronous, atomic, the newest few and some for good. The only importer of orbax.

A checkpoint `<workdir>/checkpoints/<step>` holds the train state, the resolved configuration and a fingerprint of the data.
A directory that orbax did not commit is never taken for a checkpoint, and nothing damaged is ever deleted or overwritten in
silence.
"""

from collections.abc import Sequence
from typing import Any

import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from orbax.checkpoint import checkpoint_managers

from pipeline.errors import DataError
from pipeline.training.durations import crossed


class Checkpoints:
    """The checkpoints below one directory (a local path or `gs://…`).

    Use as a context manager: leaving it waits for what is still being written and raises if that failed.
    """

    def __init__(self, directory: str, *, keep: int, keep_every_steps: float = 0.0):
        self._directory = epath.Path(directory)
        self._manager = ocp.CheckpointManager(
            self._directory,
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

    def restore_newest(self, abstract_state: Any) -> tuple[Any, dict] | None:
        """Returns the state and the notes of the newest checkpoint that can be read; None when there is no checkpoint.

        A checkpoint that cannot be read is named, with the reason, and the one before it is taken.

        Args:
          abstract_state: the structure, shapes, dtypes and shardings to restore to; the devices may be others than those
            that the checkpoint was saved from.

        Raises:
          DataError: there are checkpoints and none of them can be read.
        """
        failures = []
        for step in reversed(self.steps()):
            try:
                return self._restore(step, abstract_state)
            except Exception as error:  # orbax and tensorstore raise whatever the damage led to
                failures.append(f"{self._directory / str(step)}: {type(error).__name__}: {_first_line(error)}")
                logging.error("Checkpoint cannot be read, taking the one before. %s", failures[-1])
        if failures:
            raise DataError("no checkpoint can be read:\n  " + "\n  ".join(failures))
        return None

    def _restore(self, step: int, target: Any) -> tuple[Any, dict]:
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target), notes=ocp.args.JsonRestore())
        )
        return restored.state, restored.notes


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


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
