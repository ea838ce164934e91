"""Trains a configuration; the same command continues a run that was stopped and finds that one is finished.

python -m pipeline.train --config configs/b0.py --workdir gs://bucket/b0 [--config.key=value …]
"""

from absl import flags

from pipeline import command
from pipeline.runtime import distributed, stopping

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
    distributed.split_cpu(config.virtual_devices)
    distributed.initialize(
        _COORDINATOR_ADDRESS.value,
        _PROCESS_COUNT.value,
        _PROCESS_INDEX.value,
        peer_seconds=config.watchdog.peer_seconds,
    )

    from pipeline.training.loop import train  # after `initialize`, so that nothing can have touched a device before

    train(config, workdir)


if __name__ == "__main__":
    command.run(main, leave=stopping.leave)
