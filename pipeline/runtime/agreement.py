"""Checks that all processes of a run have the same inputs and share one work directory.

Each check is a barrier. Every process logs its number before and after it, so the log of a hanging run shows which process is
missing. With one process there is nothing to check.
"""

import contextlib
import hashlib
import json
import pathlib
import secrets
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from pipeline.errors import ConfigError, DataError, MachineError

_KINDS = (DataError, MachineError, ConfigError)  # failures, in order of severity
_OTHER = len(_KINDS) + 1


def check_same(values: dict[str, Any]) -> None:
    """Refuses to continue if a value differs between processes.

    Args:
      values: JSON values by name: the configuration, versions, the fingerprint of the data.

    Raises:
      ConfigError: on every process; the message names the values and the processes that differ from process 0.
    """
    if jax.process_count() == 1:
        return
    digests = np.stack([_digest(value) for value in values.values()])  # [values, 32]
    _log("comparing configuration, versions and data with the other processes")
    everyones = multihost_utils.process_allgather(digests)  # [processes, values, 32]
    _log("compared")
    differing = {
        name: [process for process in range(jax.process_count()) if (everyones[process, i] != everyones[0, i]).any()]
        for i, name in enumerate(values)
    }
    differing = {name: processes for name, processes in differing.items() if processes}
    if differing:
        raise ConfigError(
            f"processes were started differently; not as on process 0: {differing}. "
            f"Here, on process {jax.process_index()}: { {name: values[name] for name in differing} }"
        )


def check_shared(workdir: str) -> None:
    """Refuses to continue unless all processes see the same work directory; creates it if it is missing.

    Raises:
      ConfigError: on every process.
    """
    if jax.process_count() == 1:
        return
    token = int(multihost_utils.broadcast_one_to_all(np.int32(secrets.randbelow(2**31))))
    probe = epath.Path(workdir) / f".shared_{token}"
    created = jax.process_index() == 0 and not probe.parent.exists()
    if jax.process_index() == 0:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
    _log(f"looking for the other processes' files in {workdir}")
    multihost_utils.sync_global_devices("probe written")
    seen = multihost_utils.process_allgather(np.int32(probe.exists()))
    _log("looked")
    if jax.process_index() == 0:
        probe.unlink()
    if not seen.all():
        if created:
            with contextlib.suppress(OSError):  # it may hold the compilation cache by now
                probe.parent.rmdir()
        blind = [int(process) for process in np.flatnonzero(seen == 0)]
        raise ConfigError(
            f"--workdir={workdir} is not shared: process(es) {blind} do not see what process 0 wrote there. "
            "Use a gs:// path or a file system that all hosts mount"
        )


def found_everywhere(found: Any, failure: Exception | None) -> Any:
    """Returns what this process found if all processes succeeded; otherwise all of them raise an error of one kind.

    The most severe failure decides. A storage failure (`MachineError`) outranks damage (`DataError`), because only what every
    process could read can be called damaged. Any other error outranks both.

    Args:
      found: what this process found.
      failure: the error of this process; None if it succeeded.
    """
    kind = 0 if failure is None else next((i for i, kind in enumerate(_KINDS, 1) if isinstance(failure, kind)), _OTHER)
    kinds = [kind]
    if jax.process_count() > 1:
        kinds = [int(kind) for kind in multihost_utils.process_allgather(np.int32(kind))]
    worst = max(kinds)
    if kind == worst:
        if failure is not None:
            raise failure
        return found
    processes = [process for process, kind in enumerate(kinds) if kind == worst]
    message = f"process(es) {processes} cannot read it; their logs have the reason"
    raise _KINDS[worst - 1](message) if worst < _OTHER else MachineError(message)


def code_version() -> str:
    """Returns a hash of this package's source files, independent of where they are."""
    package = pathlib.Path(__file__).resolve().parent.parent
    sources = sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix())
    content = b"".join(path.relative_to(package).as_posix().encode() + path.read_bytes() for path in sources)
    return hashlib.sha256(content).hexdigest()[:16]


def _digest(value: Any) -> np.ndarray:
    text = json.dumps(value, sort_keys=True, default=str)
    return np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)


def _log(what: str) -> None:
    logging.info("process %d of %d: %s", jax.process_index(), jax.process_count(), what)
