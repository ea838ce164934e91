"""Checkpoints of a run: asynchronous, atomic, the newest few and some for good.

A checkpoint `<workdir>/checkpoints/<step>` holds the train state, the resolved configuration and a fingerprint of the data.
A directory that orbax did not commit is never taken for a checkpoint, and nothing damaged is ever deleted or overwritten in
silence. A storage that fails is no damage: it ends the process as a failure of the machine, and leaves everything as it is.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers
from orbax.checkpoint._src.path import gcs_utils

from pipeline.configuration.durations import is_due
from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.runtime import agreement
from pipeline.runtime.checkpoint_reading import newest_readable, read_checked
from pipeline.storage import filesystem, local, storage_errors

# orbax has the devices write shares of each array; cutting up the many small arrays of a BatchNorm network takes longer than
# writing them.
SMALLEST_SHARE_BYTES = 2**18


class Checkpoints:
    """The checkpoints below one directory (a local path or `gs://…`).

    Use as a context manager: leaving it waits for what is still being written and raises if that failed.
    """

    def __init__(self, directory: str, *, keep: int, keep_every_steps: float = 0.0):
        self._directory = epath.Path(directory)
        _write_small_arrays_whole()
        _ask_no_bucket_for_folders()
        with self._storage_failures():
            if local.is_remote(self._directory) and jax.process_index() == 0:
                for name in filesystem.finish_deletions(self._directory):
                    if name.isdecimal():
                        logging.warning(
                            "%s/%s has no %s: it is a save that was cut off, and is not taken",
                            *(self._directory, name, filesystem.COMMIT_MARK),
                        )
            self._manager = _Manager(
                self._directory,
                # Named here, so that a manager which has not saved yet can read what an earlier one did.
                item_handlers={"state": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()},
                options=ocp.CheckpointManagerOptions(
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
        with self._storage_failures():
            self._manager.close()

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, in order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, metadata: dict) -> bool:
        """Starts saving the state; returns False when this step has a checkpoint already.

        The state may be donated as soon as this returns. `metadata` is JSON: configuration, fingerprint of the data.
        """
        if step in self._manager.all_steps():
            return False
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(metadata))
        # The training loop decides when to save: without `force` orbax declines what its policies do not want.
        with self._storage_failures():
            return self._manager.save(step, args=arguments, force=True)

    def wait(self) -> None:
        """Waits until everything is on disk; raises what went wrong in the background."""
        with self._storage_failures():
            self._manager.wait_until_finished()

    def forget_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps: a run that goes on from `step` takes back what came after it."""
        for later in [other for other in self.steps() if other > step]:
            logging.info("%s is of steps that are taken back: deleted", self._directory / str(later))
            self._manager.delete(later)

    def restore_newest(
        self, abstract_state: Any, check_metadata: Callable[[dict], None] = lambda metadata: None
    ) -> tuple[Any, dict] | None:
        """Returns the state and the metadata of the newest checkpoint that can be read; None when there is no checkpoint.

        A checkpoint that is damaged, for one of the processes at least, is named, with the reason, and all of them take the one
        before it; the damaged one is renamed to `<step>.damaged`, so that its step can be saved anew.

        Args:
          abstract_state: the structure, shapes, dtypes and shardings to restore to; the devices may be others than those
            that the checkpoint was saved from.
          check_metadata: is given the metadata before the state is read; raises `ConfigError` where the run may not continue.

        Raises:
          ConfigError: what `check_metadata` raised.
          MachineError: one of the processes could not read what is there, for reasons of storage. Nothing is renamed.
          DataError: there are checkpoints and all of them are damaged.
        """

        # Read by the handlers: the manager ends with a barrier, which a process that cannot read would never reach.
        def read(step: int) -> tuple[Any, dict]:
            path = self._directory / str(step)
            metadata = ocp.JsonCheckpointHandler().restore(path / "notes", args=ocp.args.JsonRestore())
            check_metadata(metadata)
            self._check_structure(step, abstract_state)
            arguments = ocp.args.StandardRestore(abstract_state)
            return ocp.StandardCheckpointHandler().restore(path / "state", args=arguments), metadata

        def read_everywhere(step: int) -> tuple[Any, dict]:
            found = failure = None
            try:
                found = read_checked(self._directory / str(step), lambda: read(step))
            except Exception as error:  # whatever it is: the others must hear of it before it goes on
                failure = error
            return agreement.found_everywhere(found, failure)

        with self._storage_failures():
            steps = self.steps()
        found = newest_readable(self._directory, steps, read_everywhere)
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

    @contextlib.contextmanager
    def _storage_failures(self) -> Iterator[None]:
        """Raises a `MachineError` for whatever a library raises when storage fails; a full disk keeps its own error."""
        try:
            yield
        except (ConfigError, DataError, MachineError):
            raise
        except Exception as error:
            if not storage_errors.is_storage_failure(error):
                raise
            raise storage_errors.failure_of(error, self._directory) from error


@functools.cache
def _ask_no_bucket_for_folders() -> None:
    """Keeps orbax from asking for the bucket's own description whenever it lists or deletes.

    It wants to know whether the bucket has real folders. That needs a permission (storage.buckets.get) that writing objects
    does not need; without it a run could not begin. Objects are listed and deleted equally in either kind of bucket.
    """
    gcs_utils.is_hierarchical_namespace_enabled = lambda path: False


@functools.cache
def _write_small_arrays_whole() -> None:
    handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SMALLEST_SHARE_BYTES)
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # orbax warns of every handler that replaces another
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    logging.set_verbosity(verbosity)


def _arrays_by_path(tree: Any) -> dict[str, str]:
    """Returns "dtype[shape]" of each array by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


class _Manager(ocp.CheckpointManager):
    """orbax's, without its own questions to JAX's preemption service: their numbers would spoil those of `StopRequests`."""

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


class _Landmarks(checkpoint_managers.PreservationPolicy):
    """Keeps, for good, the first checkpoint at or after each multiple of a number of steps."""

    def __init__(self, every_steps: float):
        self._every_steps = every_steps

    def should_preserve(self, checkpoints: Sequence[Any], *, context) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        return [is_due(step, self._every_steps, since=before) for before, step in zip([0, *steps], steps)]
