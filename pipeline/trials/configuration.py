"""Reads the configuration of a study's trials as the trainer will."""

from absl import flags
from ml_collections import ConfigDict, config_flags

from pipeline import command
from pipeline.errors import ConfigError


def read(train: str, overrides: tuple[str, ...]) -> ConfigDict:
    """Reads a configuration file with overrides, and checks it.

    Args:
      train: The file.
      overrides: Overrides of its keys, such as "duration=100 epochs".

    Raises:
      ConfigError: the file cannot be read, or an override cannot work.
    """
    arguments = ["", f"--config={train}", *(f"--config.{override}" for override in overrides)]
    values = flags.FlagValues()
    parsed = config_flags.DEFINE_config_file("config", None, flag_values=values, lock_config=True, sys_argv=arguments)
    try:
        values(arguments)
        return command.checked(parsed.value)
    except Exception as error:  # the user wrote the file, so any error is about the configuration
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        reason = kind + " ".join(str(error).split())
        raise ConfigError(f"the trials, {train} with config.overrides: {reason}") from error
