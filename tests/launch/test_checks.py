"""What `launch/tpu_pod.sh up` refuses before anything costs money, by asking the loopback services."""

import io
import re
import subprocess
import sys
import tarfile

import pytest
from cloud.bed import REPOSITORY
from cloud.server import ApiError
from cloud.services import BUCKET, PROJECT, USER_TOKEN, ZONE, Services
from cloud.slices import DEFAULT_ACCOUNT
from cloud.tpu_errors import disabled_error
from pod.clock import Clock
from pod.errors import Refused
from pod.options import Limits, Options
from pod.plane.control_plane import ControlPlane
from pod.plane.lock import Lost, RunLock
from pod.services import gcloud, permissions
from pod.services.bucket import Bucket
from pod.services.credentials import Credentials
from pod.services.endpoints import find_endpoints
from pod.services.permissions import NO, UNKNOWN, YES, Policies
from pod.services.service import Service
from pod.slices import cost
from pod.slices.accelerators import find_accelerator
from pod.starting import checks, configuration

CONTROL = f"gs://{BUCKET}/runs/t/pod"


class Token(Credentials):
    """The user's token."""

    def _fetch(self):
        return USER_TOKEN, None


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


def refusal(check, *arguments) -> str:
    """What a check that must fail says."""
    with pytest.raises(Refused) as refused:
        check(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_type_that_the_zone_has_not(services, endpoints, given):
    service = Service(Token(), PROJECT, ZONE, endpoints)
    checks.check_type(service, given)
    given.type = "v2-2048"
    said = refusal(checks.check_type, service, given)
    assert f"zone {ZONE} has no v2-2048" in said
    assert gcloud.list_accelerator_types(PROJECT, ZONE) in said


def test_an_api_that_is_not_enabled(services, endpoints, given):
    with services.server.failing("acceleratorTypes", error=disabled_error()):
        said = refusal(checks.check_type, Service(Token(), PROJECT, ZONE, endpoints), given)
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
    assert said in refusal(checks.check_bucket, Bucket(bucket, Token(), endpoints, patience=1), given, print)


def test_a_bucket_that_is_near(services, endpoints, given):
    notes = []
    for bucket in (BUCKET, "eu", "two"):
        checks.check_bucket(Bucket(bucket, Token(), endpoints, patience=1), given, notes.append)
    (note,) = notes
    assert "eur4: check that europe-west4 is part of it" in note


def test_a_machines_account_that_cannot_give_its_slice_back_or_use_the_bucket(services, endpoints, given):
    policies = Policies(Token(), endpoints)
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


def test_a_batch_that_does_not_divide():
    said = refusal(configuration.check_batch, 100, 32, "v3-32")
    assert "config.batch_size=100 does not divide over the 32 devices of v3-32; the next that does is 128" in said


def test_a_configuration_that_cannot_work_is_refused_with_the_trainers_words_and_code(tmp_path):
    root = plain_checkout(tmp_path)
    found = configuration.read(root, str(REPOSITORY / "configs" / "b7.py"), ["--config.batch_size=64"])
    assert (found.accelerator_type, found.batch_size, found.duration) == ("v5p-64", 64, "350 epochs")
    with pytest.raises(Refused, match="batch_size") as refused:
        configuration.read(root, str(REPOSITORY / "configs" / "b7.py"), ["--config.bathc_size=1"])
    assert refused.value.exit_code == 78


def plain_checkout(folder, planner=""):
    """A checkout whose .venv is this Python, and whose planner is the given code."""
    root = folder / "checkout"
    (root / "launch" / "lib").mkdir(parents=True)
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    probe = '[ "$1" != -c ] || exit 0\n' if planner else ""
    python.write_text(f'#!/bin/sh\n{probe}exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("requirements.txt",):
        (root / name).write_bytes((REPOSITORY / name).read_bytes())
        (root / ".venv" / name).write_bytes((REPOSITORY / name).read_bytes())
    (root / "launch" / "lib" / "inspect_config.py").symlink_to(REPOSITORY / "launch" / "lib" / "inspect_config.py")
    if planner:
        (root / "pipeline").mkdir()
        (root / "pipeline" / "__init__.py").touch()
        (root / "pipeline" / "plan.py").write_text(planner)
    return root


def planner(status: int) -> str:
    """A planner that prints its arguments and ends with a status."""
    return f"import sys\nprint(sys.argv[1:])\nprint('the reason', file=sys.stderr)\nsys.exit({status})\n"


def test_a_plan_that_says_no_ends_it(tmp_path):
    root = plain_checkout(tmp_path, planner(70))
    assert "the plan says no: the reason" in refusal(configuration.plan, root, "c.py", "v3-32", "", [])


@pytest.mark.parametrize(("status", "there"), [(0, True), (71, False), (78, False)])
def test_a_plan_that_cannot_be_made_is_no_obstacle(tmp_path, status, there):
    root = plain_checkout(tmp_path, planner(status))
    answer, words = configuration.plan(root, "c.py", "v3-32", "gs://d", ["--config.seed=3"])
    assert answer == there
    if there:
        assert "'--topology=v3-32', '--config.data.data_dir=gs://d', '--config.seed=3'" in words
    else:
        assert words == "the reason"


def test_the_hours_of_a_plan_are_read_from_its_own_words():
    """A line as `pipeline/planning/report.py` writes it."""
    numbers = {
        "total_steps": 109_450,
        "evaluation": 18.0,
        "hours": 1234.56,
        "chip_hours": 39_506.0,
        "dollars": 165_924.0,
    }
    source = (REPOSITORY / "pipeline" / "planning" / "report.py").read_text()
    form = re.search(r'f"(  whole run .*)"\n\s*f"(.*)",', source)
    line = re.sub(r"\{\w+\.(\w+)(:[^}]*)\}", r"{\1\2}", form[1] + form[2]).format(**numbers)
    assert configuration.planned_hours(f"v5p-64: 32 chips\n{line}\n") == 1234.6
    assert configuration.planned_hours("v5p-64: 32 chips\n") == 0


def test_data_that_this_machine_cannot_read_is_planned_without(tmp_path):
    code = "import sys\nif 'gs://' in str(sys.argv):\n    sys.exit('no credentials')\n" + planner(0)
    there, words = configuration.plan(plain_checkout(tmp_path, code), "c.py", "v3-32", "gs://d", [])
    assert there
    assert "data_dir" not in words


def test_the_cost_is_said_and_asked_about(monkeypatch, given):
    given.provisioning = "spot"
    words = cost.describe(find_accelerator("v3-32"), given, "90 epochs", 24)
    for part in ("90 epochs", "16 chips in 4 machines", "32.00 US dollars an hour", "asked for: spot", "768 dollars"):
        assert part in words

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for answer, fine in (("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        if fine:
            cost.confirm("Ask for it?")
        else:
            assert "nothing was asked for" in refusal(cost.confirm, "Ask for it?")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "give --yes" in refusal(cost.confirm, "Ask for it?")


class SteppedClock(Clock):
    """Time that a test moves."""

    def __init__(self):
        self.time = 1e9

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds


@pytest.fixture
def plane(services, endpoints):
    made = ControlPlane(Bucket(BUCKET, Token(), endpoints, patience=1), "runs/t/pod")
    made.bucket.delete(made.name("lock.json"))
    return made


def make_lock(plane, owner, clock):
    return RunLock(plane.bucket, plane.name(), owner, 60, clock)


def test_one_supervisor_has_a_run(plane):
    clock = SteppedClock()
    first, second = make_lock(plane, "ann@laptop:/a", clock), make_lock(plane, "bob@vm:/b", clock)
    first.take()
    said = refusal(second.take)
    assert "supervised from ann@laptop" in said
    assert "--force" in said
    clock.time += 359
    refusal(second.take)
    first.keep()  # renews it
    clock.time += 359
    refusal(second.take)
    clock.time += 2
    second.take()  # nobody's: it was not renewed for six times 60 seconds
    with pytest.raises(Lost, match="on bob@vm"):
        first.keep(now=True)
    first.release()
    assert plane.bucket.read(plane.name("lock.json")) is not None  # not its own any more
    second.release()
    assert plane.bucket.read(plane.name("lock.json")) is None


def test_a_supervisor_follows_the_one_that_was_killed_on_its_machine_at_once(plane):
    clock = SteppedClock()
    make_lock(plane, "ann@laptop:/a", clock).take()
    make_lock(plane, "ann@laptop:/a", clock).take()


def test_a_supervisor_whose_lock_was_taken_away_lets_go(plane):
    clock = SteppedClock()
    first, second = make_lock(plane, "ann@laptop:/a", clock), make_lock(plane, "bob@vm:/b", clock)
    first.take()
    second.take(force=True)
    second.release()
    with pytest.raises(Lost, match="has taken over and ended"):
        first.keep(now=True)


def test_a_disturbed_bucket_costs_nobody_the_lock(services, plane):
    clock = SteppedClock()
    lock = make_lock(plane, "ann@laptop:/a", clock)
    lock.take()
    clock.time += 61
    with services.server.failing("lock", error=ApiError("UNAVAILABLE", "try again")):
        lock.keep()
    assert lock.held
    lock.keep()
    lock.release()


def test_the_archive_is_the_tracked_files_and_the_same_each_time(tmp_path):
    from pod import checkout

    (tmp_path / "a b").write_text("text\n")
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "link").symlink_to("a b")
    (tmp_path / "secret").write_text("not tracked\n")
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "a b", "run.sh", "link"], check=True)
    first = checkout.pack(tmp_path)
    (tmp_path / "run.sh").touch()
    assert checkout.pack(tmp_path) == first
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(first)
    with tarfile.open(archive) as members:
        found = {member.name: (member.mode, member.linkname) for member in members}
    assert found == {"a b": (0o644, ""), "run.sh": (0o755, ""), "link": (0o644, "a b")}
    (tmp_path / "run.sh").unlink()  # deleted, and git does not know yet
    assert checkout.pack(tmp_path) != first
