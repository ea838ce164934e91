"""Google's client against a server that speaks its protocol: what a call costs, and what becomes of each fault."""

import base64
import io

import pytest

from pipeline.errors import ConfigError, MachineError
from pipeline.storage import failures, objects
from tests.storage.faults import Fault

FAULTS = ("429", "503", "500", "408", "reset before", "reset after", "cut", "slow")


def failing(*faults):
    """Fails the first requests so, and no others."""
    left = list(faults)
    return lambda request: Fault(left.pop(0)) if left else None


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(failures, "_FIRST_PAUSE_SECONDS", 0.01)


def test_a_call_is_one_request(server):
    with server.counted() as counts:
        entry = objects.write("gs://bucket/a/b", b"123456789")
        assert objects.read("gs://bucket/a/b") == b"123456789"
        assert objects.read("gs://bucket/a/b", 2, 5) == b"345"
        assert objects.stat("gs://bucket/a/b") == entry
    assert counts == {("python", "write"): 1, ("python", "read"): 2, ("python", "stat"): 1}
    assert entry.size == 9
    assert base64.b64decode(entry.crc32c).hex() == "e3069283"  # the check value of CRC-32C in every catalogue


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_passing_fault_changes_nothing(fault, times, server):
    location = f"gs://bucket/{fault}/{times}"
    calls = [
        (lambda: objects.write(location, b"one"), lambda entry: entry.size == 3),
        (lambda: objects.append(location, b"two"), lambda _: objects.read(location) == b"onetwo"),
        (lambda: objects.read(location), lambda content: content == b"onetwo"),
        (lambda: objects.entries(f"gs://bucket/{fault}"), lambda found: location in {e.location for e in found[0]}),
        (lambda: objects.stat(location), lambda entry: entry.size == 6),
        (lambda: objects.copy(location, f"{location}.copy"), lambda _: objects.read(f"{location}.copy") == b"onetwo"),
        (lambda: objects.delete(location), lambda _: objects.stat(location) is None),
    ]
    for call, holds in calls:
        server.fault = failing(*[fault] * times)
        result = call()
        server.fault = failing()
        assert holds(result)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("fault", ["reset before", "reset after", "503"])
def test_an_append_is_done_once_wherever_a_fault_comes(fault, place, server):
    """The four requests of an append: stat, piece, compose, delete."""
    location = f"gs://bucket/append/{fault}/{place}"
    objects.write(location, b"first\n")
    server.fault = failing(*["none"] * place, fault)
    objects.append(location, b"second\n")
    assert objects.read(location) == b"first\nsecond\n"
    assert objects.stat(f"{location}.piece") is None


def test_what_an_append_sends_does_not_grow(server):
    objects.append("gs://bucket/growing", b"x" * 100_000)
    for _ in range(3):
        first = len(server.requests)
        objects.append("gs://bucket/growing", b"line\n")
        assert sum(request.bytes for request in server.requests[first:]) < 2_000
    assert objects.stat("gs://bucket/growing").size == 100_015


def test_two_writers_of_one_object_are_noticed(server):
    objects.write("gs://bucket/mine", b"1")
    compose = []

    def meanwhile(request):
        if request.kind == "compose" and not compose:
            compose.append(request)
            server._ask("POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=mine", b"other")

    server.fault = meanwhile
    with pytest.raises(FileExistsError, match="gs://bucket/mine has changed since this request was prepared"):
        objects.append("gs://bucket/mine", b"2")
    assert objects.read("gs://bucket/mine") == b"other"


def test_what_must_not_exist_is_not_replaced(server):
    objects.write("gs://bucket/once", b"1", generation=0)
    with pytest.raises(FileExistsError):
        objects.write("gs://bucket/once", b"2", generation=0)
    assert objects.read("gs://bucket/once") == b"1"


@pytest.mark.parametrize("fault", ["reset after", "cut", "reset before", "503"])
def test_what_is_created_is_not_taken_for_another_writers_when_the_answer_is_lost(fault, server):
    location = f"gs://bucket/created/{fault}"
    server.fault = failing(fault)
    assert objects.write(location, b"mine", generation=0).size == 4
    with pytest.raises(FileExistsError):
        objects.write(location, b"mine", generation=0)
    server.fault = failing("503")
    with pytest.raises(FileExistsError):
        objects.write(location, b"others", generation=0)
    server.fault = failing(fault)
    objects.append(f"{location}/record", b"first\n")
    assert objects.read(f"{location}/record") == b"first\n"


def test_an_object_of_many_requests(server):
    content = bytes(range(256)) * 2**16  # 16 MiB
    objects.write("gs://bucket/large", io.BytesIO(content))
    assert objects.read("gs://bucket/large") == content


def test_patience_ends_with_the_machine_failure_code(server, monkeypatch):
    monkeypatch.setattr(failures, "PATIENCE_SECONDS", 0.2)
    server.fault = lambda request: Fault("503")
    with pytest.raises(
        MachineError, match=r"gs://bucket/a: no answer for 0 seconds, last .*503.*same command continues"
    ):
        objects.read("gs://bucket/a")


def test_no_permission_says_what_to_grant(server):
    server.fault = lambda request: Fault("403")
    with pytest.raises(ConfigError, match=r"gs://bucket/a: no permission.*roles/storage.objectUser"):
        objects.read("gs://bucket/a")


def test_credentials_that_are_refused(server):
    server.fault = lambda request: Fault("401")
    with pytest.raises(ConfigError, match=r"gs://bucket/a: no credentials.*that work.*gcloud auth"):
        objects.read("gs://bucket/a")


def test_no_name_of_a_bucket(server):
    with pytest.raises(ConfigError, match=r"gs://bucket-/a: 'bucket-' is not the name of a bucket"):
        objects.read("gs://bucket-/a")


def test_a_bucket_that_is_not_there(server):
    for call in (
        lambda: objects.write("gs://nobody/a", b""),
        lambda: objects.entries("gs://nobody/a"),
        lambda: objects.region("gs://nobody/a"),
    ):
        with pytest.raises(ConfigError, match=r"there is no bucket nobody.*gcloud storage buckets create gs://nobody"):
            call()


def test_no_credentials(server, monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    objects._client_of_process.cache_clear()
    with pytest.raises(ConfigError, match=r"gs://bucket/a: no credentials.*gcloud auth application-default login"):
        objects.read("gs://bucket/a")
    objects._client_of_process.cache_clear()
