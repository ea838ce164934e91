"""Prepared datasets for the tests of the input, made once for each run of the suite."""

import pytest
from absl import flags

from pipeline.data.preparation import datasets


@pytest.fixture(scope="session", autouse=True)
def _parsed_flags():
    """grain asks its absl flags when it starts worker processes; commands have parsed them."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> str:
    """A data directory that holds the digits; not to be changed."""
    path = str(tmp_path_factory.mktemp("data"))
    datasets.prepare_digits(path)
    return path
