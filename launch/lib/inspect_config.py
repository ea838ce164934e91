"""Loads a configuration for the launcher and prints what a slice must fit: one `name=value` a line.

python launch/lib/inspect_config.py --config FILE [--config.key=value …]

It starts no JAX backend and reads no data. Errors are one line, with the exit codes of `pipeline/errors.py`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline import command

_CONFIG = command.define_config()


def main() -> None:
    config = command.checked(_CONFIG.value)
    for name, value in (
        ("accelerator_type", config.launch.accelerator_type),
        ("spot", "yes" if config.launch.spot else ""),
        ("batch_size", config.batch_size),
        ("duration", config.duration),
    ):
        print(f"{name}={value}")


if __name__ == "__main__":
    command.run(main)
