"""Tokens from the real gcloud and from a metadata server."""

import os
import shutil

import pytest
from cloud.metadata import Metadata
from pod.services.credentials import CredentialsError, GcloudCredentials, MetadataCredentials, meaning_of_gcloud
from pod.services.endpoints import find_endpoints

needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


@pytest.fixture
def gcloud(tmp_path):
    """The environment of somebody who has never used gcloud."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDSDK_")}
    return kept | {"CLOUDSDK_CONFIG": str(tmp_path / "gcloud"), "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false"}


class Time:
    """A clock that a test sets."""

    def __init__(self):
        self.seconds = 1_000_000.0

    def now(self) -> float:
        return self.seconds

    monotonic = now

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.mark.slow
@needs_gcloud
def test_gcloud_gives_the_token_of_a_file_and_is_asked_again_later(gcloud, tmp_path):
    file = tmp_path / "token"
    file.write_text("ya29.first")
    clock = Time()
    credentials = GcloudCredentials(clock, gcloud | {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(file)})
    assert credentials.token() == "ya29.first"
    file.write_text("ya29.second")
    clock.sleep(250)
    assert credentials.token() == "ya29.first"
    clock.sleep(100)
    assert credentials.token() == "ya29.second"


@needs_gcloud
def test_nobody_is_logged_in(gcloud):
    with pytest.raises(CredentialsError, match=r"^gcloud is not logged in: gcloud auth login$"):
        GcloudCredentials(environment=gcloud).token()


def test_there_is_no_gcloud(tmp_path):
    with pytest.raises(CredentialsError, match="gcloud is not installed"):
        GcloudCredentials(environment={"PATH": str(tmp_path)}).token()


def test_gcloud_tells_when_its_token_ends(tmp_path):
    """A program in gcloud's place, as only a real login has a token that ends: what it prints is config-helper's form."""
    program = tmp_path / "gcloud"
    program.write_text(
        '#!/bin/sh\necho "$@" >>"$CALLS"\n'
        'echo \'{"credential": {"access_token": "a", "id_token": "b", "token_expiry": "1970-01-12T14:46:40Z"}}\'\n'
    )
    program.chmod(0o755)
    calls = tmp_path / "calls"
    clock = Time()  # 1970-01-12T13:46:40Z, an hour before
    credentials = GcloudCredentials(clock, {"PATH": f"{tmp_path}:/bin:/usr/bin", "CALLS": str(calls)})
    for later in (0, 3200, 99):
        clock.sleep(later)
        assert credentials.token() == "a"
    assert len(calls.read_text().splitlines()) == 1
    clock.sleep(2)  # less than five minutes are left
    credentials.token()
    assert len(calls.read_text().splitlines()) == 2


SAID = [
    (
        "ERROR: (gcloud.auth) There was a problem refreshing your current auth tokens: invalid_grant\nPlease run",
        "has expired",
    ),
    ("ERROR: (gcloud) Reauthentication failed. cannot prompt during non-interactive execution.", "has expired"),
    ("ERROR: (gcloud.config.config-helper) Something else\nmore", "gives no access token: ERROR"),
    ("", "no reason given"),
]


@pytest.mark.parametrize(("said", "meaning"), SAID)
def test_what_gcloud_means(said, meaning):
    assert meaning in meaning_of_gcloud(said)
    assert "\n" not in meaning_of_gcloud(said)


def test_a_machine_has_the_token_of_its_service_account():
    server = Metadata("ya29.machine", "a-vm", "z", {})
    try:
        clock = Time()
        credentials = MetadataCredentials(find_endpoints({"GCE_METADATA_HOST": server.host}), clock)
        for _ in range(3):
            assert credentials.token() == "ya29.machine"
        assert len(server.requests) == 1
        clock.sleep(3599 - 299)  # it ends in less than five minutes
        credentials.token()
        credentials.forget()
        credentials.token()
        assert len(server.requests) == 3
        server.set("instance/service-accounts", {})
        credentials.forget()
        with pytest.raises(CredentialsError, match="has no service account"):
            credentials.token()
    finally:
        server.close()
