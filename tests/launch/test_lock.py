"""The lock of a run: one supervisor at a time, by the loopback bucket and a clock that the test moves."""

import pytest
from clocks import SteppedClock
from cloud.server import ApiError
from cloud.services import BUCKET, Services
from pod.plane.control_plane import ControlPlane
from pod.plane.lock import Lost, RunLock
from pod.services.bucket import Bucket
from pod.services.credentials import CredentialsError
from pod.services.endpoints import find_endpoints
from user import User, refusal


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture
def plane(services):
    bucket = Bucket(BUCKET, User(), find_endpoints(services.environment), patience=1)
    made = ControlPlane(bucket, "runs/t/pod")
    made.bucket.delete(made.name("lock.json"))
    return made


class SleepingClock(SteppedClock):
    """The clock of a machine whose monotonic time stands still while it sleeps."""

    slept = 0.0

    def now(self):
        return self.time + self.slept


def expired():
    raise CredentialsError("gcloud's login has expired: gcloud auth login")


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


def test_a_laptop_that_slept_asks_whose_the_lock_is(plane):
    clock = SleepingClock()
    first, second = make_lock(plane, "ann@laptop:/a", clock), make_lock(plane, "bob@vm:/b", clock)
    first.take()
    clock.slept += 3600
    second.take()
    with pytest.raises(Lost, match="on bob@vm"):
        first.keep()


def test_a_login_that_has_expired_does_not_hide_how_a_run_ended(plane, services, monkeypatch):
    user = User()
    bucket = Bucket(BUCKET, user, find_endpoints(services.environment), patience=1)
    lock = RunLock(bucket, plane.name(), "ann@laptop:/a", 60, SteppedClock())
    lock.take()
    monkeypatch.setattr(user, "_fetch", expired)
    user.forget()
    lock.release()
    assert not lock.held


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
