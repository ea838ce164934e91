"""Checkpoints of a run: saved asynchronously and atomically; the newest few are kept, and some for good.

A checkpoint `<workdir>/checkpoints/<step>` holds the train state, the resolved configuration and a fingerprint of the data. A
directory that orbax did not commit is no checkpoint. Damaged checkpoints are never deleted or silently overwritten. A storage
failure is not damage: it ends the process as a failure of the machine and changes nothing.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from pipeline.configuration.durations import is_due
from pipeline.errors import ConfigError, DataError, MachineError
from pipeline.runtime import agreement, orbax_paths
from pipeline.runtime.checkpoint_reading import newest_readable, read_checked
from pipeline.storage import filesystem, local, storage_errors

# orbax divides each array among the devices that write it. A BatchNorm network has many small arrays, and dividing those takes
# longer than writing them.
SMALLEST_SHARE_BYTES = 2**18


class Checkpoints:
    """The checkpoints below one directory, a local path or `gs://…`.

    Use it as a context manager: leaving the block waits for pending saves and raises if one failed.
    """

    def __init__(self, directory: str, *, keep: int, keep_every_steps: float = 0.0):
        self._directory = epath.Path(directory)
        _write_small_arrays_whole()
        orbax_paths.mend()
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
                # Without the handlers, a manager that has not saved yet could not read earlier checkpoints.
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
        """Starts to save the state; returns False if this step already has a checkpoint.

        The state may be donated as soon as this returns. `metadata` is JSON: the configuration and a fingerprint of the data.
        """
        if step in self._manager.all_steps():
            return False
        arguments = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(metadata))
        # The training loop decides when to save; `force` overrides orbax's policies.
        with self._storage_failures():
            return self._manager.save(step, args=arguments, force=True)

    def wait(self) -> None:
        """Waits until all saves are complete; raises what failed in the background."""
        with self._storage_failures():
            self._manager.wait_until_finished()

    def forget_after(self, step: int) -> None:
        """Deletes the checkpoints of steps after `step`, which a run that resumes at `step` computes again."""
        for later in [other for other in self.steps() if other > step]:
            logging.info("%s is of steps that are taken back: deleted", self._directory / str(later))
            self._manager.delete(later)

    def restore_newest(
        self, abstract_state: Any, check_metadata: Callable[[dict], None] = lambda metadata: None
    ) -> tuple[Any, dict] | None:
        """Returns the state and the metadata of the newest readable checkpoint; None if there is no checkpoint.

        If a checkpoint is damaged for any process, the log says why, and all processes take the one before it. The damaged
        one is renamed to `<step>.damaged`, or `<step>.damaged2` and so on, so its step can be saved again.

        Args:
          abstract_state: the structure, shapes, dtypes and shardings to restore to. The devices may differ from those that
            saved the checkpoint.
          check_metadata: called with the metadata before the state is read; raises `ConfigError` if the run may not continue.

        Raises:
          ConfigError: raised by `check_metadata`.
          MachineError: storage failed for one of the processes. Nothing is renamed.
          DataError: all checkpoints are damaged.
        """

        # The manager's `restore` ends with a barrier, which a process that cannot read would never reach. So use the handlers.
        def read(step: int) -> tuple[Any, dict]:
            path = self._directory / str(step)
            metadata = dict(ocp.JsonCheckpointHandler().restore(path / "notes", args=ocp.args.JsonRestore()))
            check_metadata(metadata)
            self._check_structure(step, abstract_state)
            arguments = ocp.args.StandardRestore(abstract_state)
            return ocp.StandardCheckpointHandler().restore(path / "state", args=arguments), metadata

        def read_everywhere(step: int) -> tuple[Any, dict]:
            found = failure = None
            try:
                found = read_checked(self._directory / str(step), lambda: read(step))
            except Exception as error:  # the other processes must know before this one raises
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
        """Raises if an array is missing, unknown or of another shape or dtype; orbax would silently cast it."""
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
                names = (f"{step}.damaged{number}" for number in itertools.chain([""], itertools.count(2)))
                free = next(name for name in names if not (self._directory / name).exists())
                (self._directory / str(step)).rename(self._directory / free)
        multihost_utils.sync_global_devices("damaged checkpoints set aside")
        self._manager.reload()

    @contextlib.contextmanager
    def _storage_failures(self) -> Generator[None]:
        """Turns storage failures of the libraries into `MachineError`; a full disk keeps its own error."""
        try:
            yield
        except (ConfigError, DataError, MachineError):
            raise
        except Exception as error:
            if not storage_errors.is_storage_failure(error):
                raise
            raise storage_errors.failure_of(error, self._directory) from error


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
    """orbax's manager without its queries to JAX's preemption service, whose numbers would clash with `StopRequests`."""

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


class _Landmarks(checkpoint_managers.PreservationPolicy):
    """Keeps the first checkpoint at or after each multiple of a number of steps for good."""

    def __init__(self, every_steps: float):
        self._every_steps = every_steps

    def should_preserve(self, checkpoints: Sequence[Any], *, context) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        return [is_due(step, self._every_steps, since=before) for before, step in zip([0, *steps], steps)]
