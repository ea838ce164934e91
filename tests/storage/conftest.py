"""A storage server for each test module, and the environment that points every client at it."""

import os
import platform

import pytest

from pipeline.storage import objects
from tests.storage.server import StorageServer


@pytest.fixture(scope="module")
def running_server():
    if platform.machine() != "x86_64":
        pytest.skip("fake-gcs-server comes for x86-64 alone")
    with StorageServer() as server:
        server.make_bucket("bucket")
        before = {name: os.environ.get(name) for name in server.environment}
        os.environ.update(server.environment)
        objects._client_of_process.cache_clear()
        yield server
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        objects._client_of_process.cache_clear()


@pytest.fixture
def server(running_server):
    """The server, without faults."""
    running_server.fault = lambda request: None
    yield running_server
    running_server.fault = lambda request: None
