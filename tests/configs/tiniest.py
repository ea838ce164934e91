"""The configuration of `tiny.py` with two blocks alike: much of what a start of a run costs is the tracing of its network."""

from ml_collections import ConfigDict

from tests.configs import tiny


def get_config() -> ConfigDict:
    config = tiny.get_config()
    config.model.variant = "tiniest"
    return config
