"""What `launch/tpu_pod.sh up` refuses before anything costs money, by asking the loopback services."""

import io

import pytest
from cloud.services import BUCKET, PROJECT, ZONE, Services
from cloud.slices import DEFAULT_ACCOUNT
from cloud.tpu_errors import disabled_error
from pod.options import Limits, Options
from pod.services import gcloud, permissions
from pod.services.bucket import Bucket
from pod.services.endpoints import find_endpoints
from pod.services.permissions import NO, UNKNOWN, YES, Policies
from pod.services.service import Service
from pod.slices import cost
from pod.slices.accelerators import find_accelerator
from pod.starting import checks
from user import User, refusal

CONTROL = f"gs://{BUCKET}/runs/t/pod"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = Services(tmp_path_factory.mktemp("services"))
    for bucket, location in (("far", "US-CENTRAL1"), ("us", "US"), ("eu", "EU"), ("two", "EUR4")):
        made.storage.make_bucket(bucket, location)
    yield made
    made.close()


@pytest.fixture
def endpoints(services):
    return find_endpoints(services.environment)


@pytest.fixture
def given():
    return Options(name="t", project=PROJECT, zone=ZONE, type="v3-32", limits=Limits(call_seconds=1))


def test_a_type_that_the_zone_has_not(services, endpoints, given):
    service = Service(User(), PROJECT, ZONE, endpoints)
    checks.check_type(service, given)
    given.type = "v2-2048"
    said = refusal(checks.check_type, service, given)
    assert f"zone {ZONE} has no v2-2048" in said
    assert gcloud.list_accelerator_types(PROJECT, ZONE) in said


def test_an_api_that_is_not_enabled(services, endpoints, given):
    with services.server.failing("acceleratorTypes", error=disabled_error()):
        said = refusal(checks.check_type, Service(User(), PROJECT, ZONE, endpoints), given)
    assert "gcloud services enable tpu.googleapis.com" in said


@pytest.mark.parametrize(
    ("bucket", "said"),
    [
        ("nobody", f"gcloud storage buckets create gs://nobody --location=europe-west4 --project={PROJECT}"),
        ("far", "use a bucket in europe-west4"),
        ("us", "use a bucket in europe-west4"),
    ],
)
def test_a_bucket_that_is_not_there_or_not_near(services, endpoints, given, bucket, said):
    assert said in refusal(checks.check_bucket, Bucket(bucket, User(), endpoints, patience=1), given, print)


def test_a_bucket_that_is_near(services, endpoints, given):
    notes = []
    for bucket in (BUCKET, "eu", "two"):
        checks.check_bucket(Bucket(bucket, User(), endpoints, patience=1), given, notes.append)
    (note,) = notes
    assert "eur4: check that europe-west4 is part of it" in note


def test_a_machines_account_that_cannot_give_its_slice_back_or_use_the_bucket(services, endpoints, given):
    policies = Policies(User(), endpoints)
    notes = []
    checks.check_account(policies, given, CONTROL, notes.append)
    given.service_account = f"other@{PROJECT}.iam.gserviceaccount.com"
    said = refusal(checks.check_account, policies, given, CONTROL, notes.append)
    assert f"gcloud projects add-iam-policy-binding {PROJECT} --member=serviceAccount:{given.service_account}" in said
    assert "--role=roles/tpu.admin" in said
    project = {"role": "roles/tpu.admin", "members": [f"serviceAccount:{given.service_account}"]}
    services.admin.bindings.append(project)
    said = refusal(checks.check_account, policies, given, CONTROL, notes.append)
    assert f"gcloud storage buckets add-iam-policy-binding gs://{BUCKET}" in said
    services.admin.bindings.remove(project)
    given.check_service_account = False
    checks.check_account(policies, given, CONTROL, notes.append)
    assert notes == []


MEMBER = f"serviceAccount:{DEFAULT_ACCOUNT}"


@pytest.mark.parametrize(
    ("bindings", "answer"),
    [
        ([], NO),
        ([("roles/tpu.admin", [MEMBER])], YES),
        ([("roles/tpu.viewer", [MEMBER])], NO),
        ([("roles/tpu.admin", ["user:someone@example.com"])], NO),
        ([("roles/tpu.admin", ["group:machines@example.com"])], UNKNOWN),
        ([("projects/p/roles/mine", [MEMBER])], UNKNOWN),
        ([("roles/editor", [MEMBER])], YES),
    ],
)
def test_what_a_policy_says_of_an_account(bindings, answer):
    """What might come by a group or a role of the user's own is never taken for missing."""
    policy = {"bindings": [{"role": role, "members": members} for role, members in bindings]}
    assert permissions.holds([policy], DEFAULT_ACCOUNT, permissions.DELETE_ROLES) == answer


def test_a_role_under_a_condition_is_not_taken_for_granted():
    binding = {"role": "roles/tpu.admin", "members": [MEMBER], "condition": {"expression": "request.time < x"}}
    assert permissions.holds([{"bindings": [binding]}], DEFAULT_ACCOUNT, permissions.DELETE_ROLES) == UNKNOWN


@pytest.mark.parametrize("what", ["project", "zone"])
def test_a_place_that_nothing_names(monkeypatch, given, what):
    monkeypatch.setattr(gcloud, "configured", lambda name: "")
    setattr(given, what, "")
    said = refusal(checks.check_place, given)
    assert f"--{what}" in said
    assert "launch/pod.env" in said
    monkeypatch.setattr(gcloud, "configured", lambda name: f"gcloud's {name}")
    checks.check_place(given)
    assert getattr(given, what) == {"project": "gcloud's project", "zone": "gcloud's compute/zone"}[what]


def test_the_cost_is_said_and_asked_about(monkeypatch, given):
    given.provisioning = "spot"
    words = cost.describe(find_accelerator("v3-32"), given, "90 epochs", 24)
    for part in ("90 epochs", "16 chips in 4 machines", "32.00 US dollars an hour", "requested: spot", "768 dollars"):
        assert part in words

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for answer, fine in (("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        if fine:
            cost.confirm("Request it?")
        else:
            assert "nothing was requested" in refusal(cost.confirm, "Request it?")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "give --yes" in refusal(cost.confirm, "Request it?")
