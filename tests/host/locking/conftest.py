"""The storage server of tests/storage, for locks in a bucket."""

from tests.storage.conftest import running_server, server

__all__ = ["running_server", "server"]
