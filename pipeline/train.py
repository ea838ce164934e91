"""Trains a configuration. The same command continues a run that was stopped, and reports one that is finished.

python -m pipeline.train --config configs/b0.py --workdir gs://bucket/b0 [--config.key=value …]
"""

import sys
from typing import NoReturn

from absl import flags

from pipeline import command
from pipeline.host import ending
from pipeline.host.announcing import announce

_CONFIG = command.define_config()
_WORKDIR = command.define_workdir()
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "host:port of process 0; only where JAX cannot find it by itself."
)
_PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "Number of processes of the run.")
_PROCESS_INDEX = flags.DEFINE_integer("process_index", None, "Number of this process, from 0.")


def main() -> None:
    config = command.checked(_CONFIG.value)
    workdir = command.absolute_workdir(_WORKDIR.value)
    announce("Importing JAX and connecting to the other processes", "5 to 20 seconds; until the last of them is there")
    from pipeline.runtime import distributed

    distributed.split_cpu(config.virtual_devices)
    distributed.initialize(
        _COORDINATOR_ADDRESS.value,
        _PROCESS_COUNT.value,
        _PROCESS_INDEX.value,
        peer_seconds=config.watchdog.peer_seconds,
    )

    from pipeline.training.loop import train  # imported after `initialize`, so that nothing touches a device before

    train(config, workdir)


def leave(exit_code: int) -> NoReturn:
    """Ends the process, together with its peers if it has joined them."""
    if "pipeline.runtime.stopping" not in sys.modules:
        ending.leave(exit_code)
    from pipeline.runtime import stopping

    stopping.leave(exit_code)


if __name__ == "__main__":
    command.run(main, leave=leave)
