"""The loopback cloud itself, where gcloud does not look: what it refuses, and what the tests' own figures rest on."""

import http.client
import json
import threading
import time
import urllib.request

import pytest
from cloud.machines import processes
from cloud.metadata import Metadata
from cloud.meter import Meter
from cloud.services import BUCKET, PROJECT, USER_TOKEN, WORKER_TOKEN, ZONE, Services, wait_until

PARENT = f"projects/{PROJECT}/locations/{ZONE}"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


def ask(services: Services, method: str, path: str, body=None, token: str = USER_TOKEN, **headers: str):
    """Returns (status, JSON or bytes)."""
    connection = http.client.HTTPConnection(services.server.url.removeprefix("http://"), timeout=60)
    content = body if isinstance(body, bytes | None) else json.dumps(body)
    connection.request(method, path, content, {"Authorization": f"Bearer {token}"} | headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    try:
        return answer.status, json.loads(data)
    except ValueError:
        return answer.status, data


def write(services: Services, name: str, content: str, generation: int, kind: str) -> int:
    """Writes an object on a condition; returns the status."""
    where = f"/upload/storage/v1/b/{BUCKET}/o?uploadType={kind}&ifGenerationMatch={generation}"
    if kind == "media":
        return ask(services, "POST", f"{where}&name={name}", content.encode())[0]
    parts = [json.dumps({"name": name}), content]
    body = "".join(f"--x\r\nContent-Type: application/json\r\n\r\n{part}\r\n" for part in parts) + "--x--\r\n"
    headers = {"Content-Type": "multipart/related; boundary=x"}
    return ask(services, "POST", where, body.encode(), **headers)[0]


@pytest.mark.parametrize("kind", ["media", "multipart"])
def test_of_many_writers_of_one_generation_one_succeeds(services, kind):
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda i=i: statuses.append(write(services, f"race-{kind}", str(i), 0, kind)))
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [412] * 11
    generation = int(ask(services, "GET", f"/storage/v1/b/{BUCKET}/o/race-{kind}")[1]["generation"])
    assert write(services, f"race-{kind}", "again", generation + 1, kind) == 412
    assert write(services, f"race-{kind}", "again", generation, kind) == 200
    path = f"/storage/v1/b/{BUCKET}/o/race-{kind}"
    assert ask(services, "DELETE", f"{path}?ifGenerationMatch={generation}")[0] == 412
    generation = int(ask(services, "GET", path)[1]["generation"])
    assert ask(services, "DELETE", f"{path}?ifGenerationMatch={generation}")[0] == 204
    assert ask(services, "GET", path)[0] == 404


@pytest.mark.parametrize(
    ("version", "change", "status"),
    [
        ("v2", {}, 200),
        ("v2", {"bootDiskConfig": {"diskSizeGb": "100"}}, 400),  # v2alpha1 alone has it
        ("v2alpha1", {"bootDiskConfig": {"diskSizeGb": "100"}}, 200),
        ("v2", {"acceleratortype": "v3-32"}, 400),
        ("v2", {"acceleratorType": "v4-8"}, 400),
        ("v2", {"runtimeVersion": ""}, 400),
        ("v2", {"metadata": {"key": 1}}, 400),
        ("v2", {"metadata": {"key": "x" * 262_145}}, 400),
        ("v2", {"tags": "tag"}, 400),
    ],
)
def test_a_request_that_google_refuses_is_refused(services, version, change, status):
    services.tpu.lifecycles = [[]]
    name = f"refused-{services.tpu.created}"
    node = {"acceleratorType": "v3-32", "runtimeVersion": "tpu-ubuntu2204-base"} | change
    body = {"tpu": {"nodeSpec": [{"parent": PARENT, "nodeId": name, "node": node}]}}
    path = f"/{version}/{PARENT}/queuedResources?queuedResourceId={name}"
    answer = ask(services, "POST", path, body)
    assert answer[0] == status, answer
    assert ask(services, "POST", path, body, token="expired")[0] == 401
    if status == 200:
        assert ask(services, "POST", path, body)[1]["error"]["status"] == "ALREADY_EXISTS"


def test_a_node_is_not_deleted_with_its_request_unless_by_force(services):
    services.tpu.lifecycles = [["PROVISIONING", "ACTIVE"]]
    node = {
        "acceleratorType": "v2-8",
        "runtimeVersion": "x",
        "metadata": {"startup-script": "#!/bin/sh\nexec sleep 600\n"},
    }
    body = {"tpu": {"nodeSpec": [{"parent": PARENT, "nodeId": "n", "node": node}]}}
    path = f"/v2/{PARENT}/queuedResources"
    assert ask(services, "POST", f"{path}?queuedResourceId=n", body)[0] == 200
    wait_until(lambda: len(services.machines.alive()) == 1)
    names = [machine.name for machine in services.machines.nodes["n"]]
    assert ask(services, "DELETE", f"{path}/n")[1]["error"]["status"] == "FAILED_PRECONDITION"
    status, operation = ask(services, "DELETE", f"{path}/n?force=true", token=WORKER_TOKEN)
    assert (status, operation["done"]) == (200, False)
    wait_until(lambda: ask(services, "GET", f"/v2/{operation['name']}")[1]["done"])
    assert ask(services, "GET", f"/v2/{PARENT}/nodes/n")[0] == 404
    assert processes(names) == []
    (bill,) = [bill for bill in services.tpu.bills if bill.node == "n"]
    assert bill.gone > bill.ready


def test_the_metadata_server_wants_its_header_and_tells_changes_at_once():
    metadata = Metadata("token", "machine", ZONE, {"key": "value"})
    base = f"http://{metadata.host}/computeMetadata/v1/"

    def get(path: str, **headers: str):
        request = urllib.request.Request(base + path, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode(), answer.headers["ETag"]

    with pytest.raises(urllib.error.HTTPError, match="403"):
        get("instance/attributes/key")
    google = {"Metadata-Flavor": "Google"}
    assert get("instance/attributes/key", **google)[0] == "value"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get("instance/attributes/none", **google)
    assert json.loads(get("instance/service-accounts/default/token", **google)[0])["access_token"] == "token"
    value, tag = get("instance/preempted", **google)
    assert value == "FALSE"
    threading.Timer(0.1, lambda: metadata.set("instance/preempted", "TRUE")).start()
    changed = get(f"instance/preempted?wait_for_change=true&last_etag={tag}&timeout_sec=60", **google)
    assert changed[0] == "TRUE"
    metadata.close()


def test_the_meter_sees_a_node_on_which_nothing_runs(services, tmp_path):
    services.tpu.lifecycles = [["ACTIVE"]]
    meter = Meter(services.tpu, tmp_path / "running")
    node = {"acceleratorType": "v2-8", "runtimeVersion": "x"}
    body = {"tpu": {"nodeSpec": [{"parent": PARENT, "nodeId": "idle", "node": node}]}}
    begin = time.monotonic()
    assert ask(services, "POST", f"/v2/{PARENT}/queuedResources?queuedResourceId=idle", body)[0] == 200
    wait_until(lambda: meter.longest_idle > 0.3)
    assert time.monotonic() - begin > 0.3
    assert meter.most_at_once == 0
    meter.close()
    services.tpu.delete_request_as_user("idle")
