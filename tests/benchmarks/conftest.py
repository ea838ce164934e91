"""The prepared datasets of the tests of the input."""

from tests.data.conftest import _parsed_flags, data_dir  # noqa: F401
