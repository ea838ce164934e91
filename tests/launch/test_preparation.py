"""What a machine needs before a job runs on it, from a bucket of fake-gcs-server: what is missing is said in one line."""

import base64
import hashlib
import io
import json
import tarfile

import pytest
from cloud.server import Answer
from cloud.services import BUCKET, Services, wait_until
from pod.clock import Clock
from pod.plane.control import Job
from pod.plane.control_plane import ControlPlane
from pod.services.bucket import Bucket
from pod.services.endpoints import find_endpoints
from pod.worker.preparation import Preparation
from user import User

SECRET = "projects/p/secrets/s/versions/3"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture
def plane(services, request):
    endpoints = find_endpoints(services.environment)
    return ControlPlane(Bucket(BUCKET, User(), endpoints, patience=5), f"{request.node.name}/pod")


def archive(plane, files: dict[str, str]) -> str:
    """Puts an archive of these files into the bucket; returns its name."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as packed:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            packed.addfile(entry, io.BytesIO(text.encode()))
    name = f"code-{hashlib.sha256(content.getvalue()).hexdigest()}.tar.gz"
    plane.bucket.write(plane.name(name), content.getvalue())
    return name


def prepare(plane, services, root, seconds=0.0, **job):
    """Prepares for a job until that has come to an end."""
    code = job.pop("code", None) or archive(plane, {"launch/pod/packages.sh": 'echo "$@" >"$1/called"\n'})
    endpoints = find_endpoints(services.environment)
    preparation = Preparation(root, plane, User(), endpoints, Job("id", "key", (), code, **job), seconds, Clock())
    wait_until(lambda: preparation.state != "setup")
    return preparation


def test_all_is_there(plane, services, tmp_path):
    plane.bucket.write(plane.name("environment-1"), json.dumps({"A": "ü\n"}).encode())
    first = prepare(plane, services, tmp_path, environment="environment-1", mount="photos")
    assert (first.state, first.message, first.environment) == ("ready", "", {"A": "ü\n"})
    assert (tmp_path / "called").read_text() == f"{tmp_path} {first.code} photos\n"
    assert (tmp_path / "environment.json").stat().st_mode & 0o777 == 0o600
    plane.bucket.delete(plane.name("environment-1"))
    again = prepare(plane, services, tmp_path, environment="environment-1", code=first.job.code)
    assert again.environment == {"A": "ü\n"}, "it is kept on the machine"
    other = prepare(plane, services, tmp_path, code=first.job.code)
    assert other.environment == {}
    assert not (tmp_path / "environment.json").exists()


def test_what_is_missing_is_named(plane, services, tmp_path):
    cases = [
        ({"code": "code-1.tar.gz"}, "code-1.tar.gz is not the name of an archive"),
        ({"code": f"code-{'0' * 64}.tar.gz"}, "is not there; start the run again"),
        ({"code": archive(plane, {"README.md": ""})}, "the archive is of another version"),
        ({"environment": "environment-2"}, "the environment is gone from the bucket"),
        ({"secrets": {"A": SECRET}}, f"{SECRET}: "),
        ({"code": archive(plane, {"launch/pod/packages.sh": "echo one; echo 'no disk' >&2; exit 3\n"})}, "no disk"),
    ]
    for job, words in cases:
        preparation = prepare(plane, services, tmp_path, **job)
        assert preparation.state == "failed"
        assert words in preparation.message
        assert "\n" not in preparation.message


def test_a_damaged_archive_is_refused(plane, services, tmp_path):
    name = archive(plane, {"launch/pod/packages.sh": ""})
    plane.bucket.write(plane.name(name), b"something else")
    preparation = prepare(plane, services, tmp_path, code=name)
    assert "its checksum is another one than its name says" in preparation.message
    assert not preparation.code.exists()


SECRETS = {
    "may not be read": (
        Answer(403, {"error": {"code": 403, "message": "denied"}}),
        "roles/secretmanager.secretAccessor",
    ),
    "holds a zero": (Answer(200, {"payload": {"data": base64.b64encode(b"a\0b").decode()}}), "it holds a zero byte"),
    "is no text": (Answer(200, {"payload": {"data": base64.b64encode(b"\xff\xfe").decode()}}), "it is not text"),
}


@pytest.mark.parametrize(("answer", "words"), SECRETS.values(), ids=SECRETS)
def test_a_secret_that_cannot_be_had(plane, services, tmp_path, answer, words):
    with services.server.failing("secrets/s/versions/3:access", error=answer):
        preparation = prepare(plane, services, tmp_path, secrets={"A": SECRET})
    assert words in preparation.message
    assert SECRET in preparation.message


def test_an_empty_secret_is_an_empty_variable(plane, services, tmp_path):
    with services.server.failing("secrets/s/versions/3:access", error=Answer(200, {"payload": {}})):
        preparation = prepare(plane, services, tmp_path, secrets={"A": SECRET})
    assert (preparation.state, preparation.environment) == ("ready", {"A": ""})


def test_what_fails_once_is_tried_again(plane, services, tmp_path):
    text = 'if [ -e "$1/before" ]; then exit 0; fi; touch "$1/before"; exit 1\n'
    preparation = prepare(plane, services, tmp_path, 60.0, code=archive(plane, {"launch/pod/packages.sh": text}))
    assert preparation.state == "ready"


def test_it_can_be_given_up(plane, services, tmp_path):
    text = 'touch "$1/begun"; exec sleep 600\n'
    code = archive(plane, {"launch/pod/packages.sh": text})
    endpoints = find_endpoints(services.environment)
    preparation = Preparation(tmp_path, plane, User(), endpoints, Job("id", "key", (), code), 60.0, Clock())
    wait_until(lambda: (tmp_path / "begun").exists())
    preparation.cancel()
    assert preparation._process.poll() == -15
    assert preparation.state == "setup"
