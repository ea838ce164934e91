"""Objects in a bucket, against fake-gcs-server and everything that a network does to a request."""

import contextlib
import json
import socket
import threading

import pytest
from cloud.server import Answer
from cloud.services import BUCKET, USER_TOKEN, Services
from pod.services import http
from pod.services.bucket import ABSENT, Bucket, Conflict, split_url
from pod.services.credentials import Credentials, CredentialsError
from pod.services.endpoints import find_endpoints


class Pauses:
    """A clock on which waiting takes no time; remembers for how long was waited."""

    def __init__(self):
        self.seconds, self.pauses = 0.0, []

    def now(self) -> float:
        return 1_000_000.0 + self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds += seconds


class Tokens(Credentials):
    """Gives these tokens, one after the other."""

    def __init__(self, *tokens: str):
        super().__init__()
        self._tokens = list(tokens)

    def _fetch(self):
        return self._tokens.pop(0), None


@pytest.fixture(scope="module")
def cloud_services(tmp_path_factory):
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture
def services(cloud_services):
    yield cloud_services
    cloud_services.server.faults.clear()
    cloud_services.server.calls.clear()


@pytest.fixture
def clock():
    return Pauses()


@pytest.fixture
def bucket(services, clock):
    endpoints = find_endpoints(services.environment)
    return Bucket(BUCKET, Tokens(USER_TOKEN), endpoints, patience=60, timeout=20, clock=clock)


def test_what_is_written_is_read(bucket):
    name, content = "runs/ä b/c%2Fd+e?.json", bytes(range(256)) + b"\r\n--\r\n"
    generation = bucket.write(name, content, metadata={"report": '{"a": "ü"}'})
    assert bucket.read(name) == (content, generation)
    listed = bucket.list("runs/ä b/")
    assert [(item.name, item.size, item.generation) for item in listed] == [(name, len(content), generation)]
    assert listed[0].metadata == {"report": '{"a": "ü"}'}
    assert bucket.delete(name)
    assert not bucket.delete(name)
    assert bucket.read(name) is None


def test_a_write_is_bound_to_the_generation_that_was_read(bucket):
    first = bucket.write("bound", b"1", if_generation=ABSENT)
    with pytest.raises(Conflict):
        bucket.write("bound", b"2", if_generation=ABSENT)
    second = bucket.write("bound", b"3", if_generation=first)
    for wrong in (first, ABSENT):
        with pytest.raises(Conflict):
            bucket.write("bound", b"4", if_generation=wrong)
    with pytest.raises(Conflict):
        bucket.delete("bound", if_generation=first)
    assert bucket.read("bound") == (b"3", second)


def test_of_many_writers_one_succeeds(bucket):
    generation = bucket.write("race", b"start")
    outcomes = []

    def write(number: int) -> None:
        try:
            bucket.write("race", b"%d" % number, if_generation=generation)
            outcomes.append(number)
        except Conflict:
            pass

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert bucket.read("race")[0] == b"%d" % outcomes[0]


ERRORS = {
    "429": {"error": Answer(429, b"slow down", {"Retry-After": "7"})},
    "500": {"error": Answer(500, b"")},
    "503": {"error": Answer(503, b"<html>Service Unavailable</html>")},
    "reset": {"reset": True},
}


@pytest.mark.parametrize("how", ERRORS.values(), ids=ERRORS)
def test_a_passing_error_is_tried_again(bucket, services, clock, how):
    with services.server.failing("/o", times=3, **how):
        bucket.write("passing", b"1")
    with services.server.failing("/o/passing", times=3, **how):
        assert bucket.read("passing")[0] == b"1"
    assert len(clock.pauses) == 6
    if "error" in how and "Retry-After" in how["error"].headers:
        assert min(clock.pauses) >= 7
    else:
        assert 0.5 <= clock.pauses[0] <= 1 < clock.pauses[2] <= 4, "the pauses grow"


def test_patience_ends(bucket, services, clock):
    with services.server.failing("/o/gone", error=Answer(503, b"")), pytest.raises(http.ApiError) as raised:
        bucket.read("gone")
    assert raised.value.http_status == 503
    assert 30 < sum(clock.pauses) <= 60


def test_a_connection_that_hangs_ends(services, clock):
    endpoints = find_endpoints(services.environment)
    bucket = Bucket(BUCKET, Tokens(USER_TOKEN), endpoints, patience=0, timeout=0.2, clock=clock)
    with services.server.failing("/o/hangs", hang=True), pytest.raises(http.ApiError, match=r"nothing came for 0\.2 s"):
        bucket.read("hangs")


def _break_off(_):
    raise ConnectionResetError


def test_a_write_whose_answer_was_lost_is_no_conflict(bucket, services):
    with services.server.failing("ifGenerationMatch=0", times=1, after=_break_off):
        generation = bucket.write("lost", b"mine", if_generation=ABSENT)
    assert bucket.read("lost") == (b"mine", generation)


def test_a_write_that_another_overtook_is_a_conflict(bucket, services):
    def overtake(_):
        services.storage.write(BUCKET, "overtaken", b"theirs")

    with services.server.failing("ifGenerationMatch=0", times=1, before=overtake, reset=True), pytest.raises(Conflict):
        bucket.write("overtaken", b"mine", if_generation=ABSENT)
    assert bucket.read("overtaken")[0] == b"theirs"


def test_a_refusal_is_not_tried_again(bucket, services, clock):
    services.storage.denied.add("storage.objects.create")
    try:
        with pytest.raises(http.ApiError) as raised:
            bucket.write("denied", b"")
    finally:
        services.storage.denied.clear()
    assert raised.value.http_status == 403
    assert raised.value.status == "PERMISSION_DENIED"
    assert clock.pauses == []
    assert USER_TOKEN not in str(raised.value)


def test_a_token_that_has_expired_is_replaced(services, clock):
    endpoints = find_endpoints(services.environment)
    bucket = Bucket(BUCKET, Tokens("expired", USER_TOKEN), endpoints, clock=clock)
    assert bucket.read("nothing") is None
    with pytest.raises(http.ApiError) as raised:
        Bucket(BUCKET, Tokens("expired", "expired too"), endpoints, clock=clock).read("nothing")
    assert raised.value.http_status == 401


def test_no_bucket_is_not_no_object(services, clock):
    bucket = Bucket("another", Tokens(USER_TOKEN), find_endpoints(services.environment), clock=clock)
    with pytest.raises(http.ApiError, match="bucket does not exist"):
        bucket.read("name")


def test_a_listing_of_many_pages(bucket, services):
    def pages(call):
        if not call.path.endswith(f"/b/{BUCKET}/o"):
            return None
        page = int(call.query.get("pageToken", "0"))
        items = [{"name": f"p/{page}-{index}", "size": "1", "generation": "5"} for index in range(2)]
        return Answer(200, {"items": items} | ({"nextPageToken": str(page + 1)} if page < 2 else {}))

    services.server.handlers.insert(0, pages)
    try:
        assert [item.name for item in bucket.list("p/")] == [
            f"p/{page}-{index}" for page in range(3) for index in range(2)
        ]
    finally:
        services.server.handlers.remove(pages)


def test_a_request_that_changes_something_each_time_is_sent_once(services, clock):
    url = f"{services.server.url}/v2/projects/project/locations/z/queuedResources"
    for how, times in ({"reset": True}, 1), ({"error": Answer(503, b"")}, 1), ({"error": Answer(429, b"")}, 3):
        services.server.calls.clear()
        with services.server.failing("queuedResources", **how), pytest.raises(http.ApiError):
            http.retrying(
                lambda: http.request("POST", url, token=USER_TOKEN, body={}),
                seconds=4,
                twice_does_no_harm=False,
                clock=clock,
            )
        assert len(services.server.seen("queuedResources")) >= times
        if times == 1:
            assert len(services.server.seen("queuedResources")) == 1


def test_an_answer_that_drips_ends_too():
    """Each byte comes in time, the whole does not."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    over.wait(0.05)

        over = threading.Event()
        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(http.ApiError, match=r"nothing came|did not come to an end"):
            http.request("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.5)
        over.set()
        thread.join()


def test_an_answer_that_breaks_off_is_none():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def break_off() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}")

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(http.ApiError, match="broke in the middle") as raised:
            http.request("GET", f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=20)
        assert raised.value.passing
        thread.join()


def test_a_refused_connection_says_so():
    with pytest.raises(http.ApiError, match=r"no answer: .*refused") as raised:
        http.request("GET", "http://127.0.0.1:9/x?secret=1")
    assert "secret" not in str(raised.value)
    assert raised.value.not_done


def test_an_error_of_the_service_is_told_in_its_words(services):
    said = {"error": {"code": 409, "status": "ALREADY_EXISTS", "message": "Resource 'a'\nalready exists"}}
    with services.server.failing("/v2/x", error=Answer(409, said)), pytest.raises(http.ApiError) as raised:
        http.request("GET", f"{services.server.url}/v2/x", token=USER_TOKEN)
    assert str(raised.value).startswith("ALREADY_EXISTS (409): Resource 'a' already exists [")


def test_a_page_of_a_proxy_is_no_answer(bucket, services):
    page = Answer(200, b"<html>Please log in to the network</html>")
    with services.server.failing("GET .*", error=page):
        for ask in (bucket.location, lambda: bucket.read("a"), lambda: bucket.list("a")):
            with pytest.raises(http.ApiError, match="in the service's place: '<html>Please log in") as raised:
                ask()
            assert raised.value.passing


@pytest.mark.parametrize(
    ("url", "parts"), [("gs://b", ("b", "")), ("gs://b/", ("b", "")), ("gs://b/c/d/", ("b", "c/d"))]
)
def test_the_parts_of_a_url(url, parts):
    assert split_url(url) == parts


@pytest.mark.parametrize("url", ["", "b/c", "gs://", "gs:///c", "s3://b"])
def test_what_is_no_url(url):
    with pytest.raises(ValueError, match="expected gs://"):
        split_url(url)


def test_no_token_is_said_in_one_line(services, clock):
    class Nobody(Credentials):
        def _fetch(self):
            raise CredentialsError("gcloud is not logged in: gcloud auth login")

    bucket = Bucket(BUCKET, Nobody(), find_endpoints(services.environment), clock=clock)
    with pytest.raises(CredentialsError, match="gcloud auth login"):
        bucket.read("x")


def test_json_bodies_are_sent_as_such(services):
    services.server.calls.clear()
    with services.server.failing("/v2/y", error=Answer(200, {"a": 1})):
        answer = http.request("POST", f"{services.server.url}/v2/y", token=USER_TOKEN, body={"ü": ["\ud800", 1]})
    assert answer.json() == {"a": 1}
    assert json.loads(services.server.calls[-1].data) == {"ü": ["\ud800", 1]}
