"""The real gcloud reads every answer of the loopback services that the launcher acts on, with the same meaning.

What a service says wrongly, such as a state that the API has not, gcloud leaves out or refuses, and a test here fails.
"""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from cloud import tpu_fields
from cloud.real_gcloud import Gcloud, find_gcloud, run_inside, unknown_to_gcloud
from cloud.server import ApiError
from cloud.services import PROJECT, USER_TOKEN, ZONE, Services, wait_until
from cloud.slices import NODE_STATES, REQUEST_STATES
from cloud.tpu_errors import disabled_error, permission_error, quota_error

PARENT = f"projects/{PROJECT}/locations/{ZONE}"
QUEUED = ("compute", "tpus", "queued-resources")


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    find_gcloud()
    made = Services(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def gcloud(services, tmp_path_factory):
    return Gcloud(tmp_path_factory.mktemp("gcloud") / "gcloud", services)


def ask(services: Services, method: str, path: str, body: dict | None = None) -> dict:
    """Sends a request as plainly as can be."""
    connection = http.client.HTTPConnection(services.server.url.removeprefix("http://"), timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request(method, f"/v2/{path}", content, {"Authorization": f"Bearer {USER_TOKEN}"})
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, said
    return said


def request_slice(services: Services, name: str, life: list) -> None:
    """Queues a request that goes through the states `life`."""
    services.tpu.lifecycles = [life]
    node = {"acceleratorType": "v3-32", "runtimeVersion": "tpu-ubuntu2204-base", "metadata": {"key": "a,b=c\nd"}}
    spec = {"parent": PARENT, "nodeId": name, "node": node}
    ask(
        services, "POST", f"{PARENT}/queuedResources?queuedResourceId={name}", {"spot": {}, "tpu": {"nodeSpec": [spec]}}
    )


def delete_all(services: Services) -> None:
    for kind in ("queuedResources", "nodes"):
        for item in ask(services, "GET", f"{PARENT}/{kind}").get(kind, []):
            ask(services, "DELETE", f"{item['name']}?force=true")
        wait_until(lambda kind=kind: not ask(services, "GET", f"{PARENT}/{kind}"))


# Fields of a request that neither the launcher nor gcloud's documented options use.
LEFT_OUT = {"trafficConfig", "multiNodeParams", "health", "multisliceNode"}


@pytest.mark.parametrize("version", ["v2", "v2alpha1"])
def test_the_service_knows_the_fields_and_states_of_gclouds_message_classes(version):
    fields, output, states = json.loads(run_inside("fields.py", version))
    assert without(fields, {*output, *LEFT_OUT}) == described(tpu_fields.QUEUED_RESOURCE[version])
    assert states["request"] == sorted(REQUEST_STATES)
    assert states["node"] == sorted(NODE_STATES)
    assert states["initiator"] == ["SERVICE", "STATE_INITIATOR_UNSPECIFIED", "USER"]


KINDS = {"StringField": "string", "EnumField": "string", "BooleanField": "boolean"}


def without(fields: dict, unknown: set[str]) -> dict:
    """Brings gcloud's fields into the form of `described`, without those of the names `unknown`."""
    kept = {}
    for name, (kind, repeated) in fields.items():
        if name not in unknown:
            inner = without(kind, unknown) if isinstance(kind, dict) else KINDS.get(kind, kind)
            kept[name] = [inner, repeated]
    return kept


def described(fields: dict) -> dict:
    """The service's table in the same form."""
    found = {}
    for name, kind in fields.items():
        if isinstance(kind, dict):
            found[name] = [described(kind), False]
        elif isinstance(kind, list):
            found[name] = [described(kind[0]), True]
        elif kind == tpu_fields.STRINGS:
            found[name] = ["string", True]
        else:
            found[name] = [{tpu_fields.NUMBER: "IntegerField", tpu_fields.LONG: "IntegerField"}.get(kind, kind), False]
    return found


def test_each_state_of_a_request_is_read_with_its_initiator_and_its_reason(services, gcloud):
    cases = [(state, "") for state in REQUEST_STATES]
    cases += [("SUSPENDING", "USER"), ("SUSPENDING", "SERVICE"), ("SUSPENDED", "USER"), ("SUSPENDED", "SERVICE")]
    for number, (state, initiator) in enumerate(cases):
        name = f"q{number}"
        request_slice(services, name, [])
        services.tpu.set_state(name, state, initiator)
    ours = ask(services, "GET", f"{PARENT}/queuedResources")["queuedResources"]
    theirs = gcloud.json(*QUEUED, "list")
    assert [(item["state"]["state"], item["state"].get("stateInitiator", "")) for item in theirs] == cases
    assert theirs == ours
    failed = gcloud.json(*QUEUED, "describe", "q4")["state"]["failedData"]["error"]
    assert failed["code"] == 8  # google.rpc.Code.RESOURCE_EXHAUSTED
    assert "no more capacity" in failed["message"]
    delete_all(services)


def test_each_state_of_a_node_is_read(services, gcloud):
    for number in range(len(NODE_STATES)):
        request_slice(services, f"n{number}", ["PROVISIONING"])
    wait_until(lambda: len(services.tpu.nodes) == len(NODE_STATES))
    for number, state in enumerate(NODE_STATES):
        services.tpu.set_node_state(f"n{number}", state)
    sick = {
        "health": "UNHEALTHY_MAINTENANCE",
        "healthDescription": "The node is under maintenance.",
        "symptoms": [{"symptomType": "MESH_BUILD_FAIL", "workerId": "1", "details": "no mesh"}],
        "upcomingMaintenance": {"type": "UNSCHEDULED", "maintenanceStatus": "PENDING", "canReschedule": False},
    }
    services.tpu.set_node_state("n2", "READY", **sick)
    ours = {item["name"]: item for item in ask(services, "GET", f"{PARENT}/nodes")["nodes"]}
    theirs = {item["name"]: item for item in gcloud.json("compute", "tpus", "tpu-vm", "list")}
    assert theirs == ours
    names = [f"{PARENT}/nodes/n{number}" for number in range(len(NODE_STATES))]
    assert [theirs[name]["state"] for name in names] == list(NODE_STATES)
    delete_all(services)


EXPIRED = ApiError("UNAUTHENTICATED", "Request had invalid authentication credentials.")
ERRORS = {
    "quota": (quota_error(), ["RESOURCE_EXHAUSTED: Quota limit", "google.rpc.QuotaFailure"]),
    "permission": (
        permission_error(),
        ["PERMISSION_DENIED: Permission 'tpu.nodes.create' denied", "google.rpc.ErrorInfo"],
    ),
    "disabled": (disabled_error(), ["PERMISSION_DENIED: Cloud TPU API has not been used", "SERVICE_DISABLED"]),
    "expired": (EXPIRED, ["UNAUTHENTICATED: Request had invalid"]),
    "invalid": (None, ["INVALID_ARGUMENT: Invalid accelerator type"]),
    "exists": (None, ["ALREADY_EXISTS: Resource '"]),
    "absent": (None, ["NOT_FOUND: Resource '"]),
}


def test_errors_are_read_with_status_message_and_details(services, gcloud):
    """Each of them in one call of gcloud, two at a time."""
    request_slice(services, "exists", ["WAITING_FOR_RESOURCES"])

    def call(name: str) -> str:
        kind = "v4-8" if name == "invalid" else "v3-32"
        wish = (f"--node-id={name}", f"--accelerator-type={kind}", "--runtime-version=tpu-ubuntu2204-base", "--async")
        command = ("describe", name) if name == "absent" else ("create", name, *wish)
        with services.server.failing(f" /v2/.*{name}$", error=ERRORS[name][0]) if ERRORS[name][0] else PASSING:
            result = gcloud.run(*QUEUED, *command)
        assert result.returncode == 1
        return result.stderr

    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(ERRORS, pool.map(call, ERRORS)))
    for name, (_, words) in ERRORS.items():
        for word in words:
            assert word in said[name], name
    delete_all(services)


class _Passing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


PASSING = _Passing()


def test_a_slice_is_created_reached_and_deleted_by_gcloud_alone(services, tmp_path):
    """Operations are waited for. The last hop of `ssh` is a stand-in: it speaks no protocol of Google's."""
    gcloud = Gcloud(tmp_path / "gcloud", services, forked=False)
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/arguments"\necho "from worker 1"\n')
    ssh.chmod(0o755)
    services.tpu.lifecycles = [["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]]
    kind = ("--accelerator-type=v3-32", "--runtime-version=tpu-ubuntu2204-base")
    created = gcloud.run(*QUEUED, "create", "whole", "--node-id=whole", *kind)
    assert created.returncode == 0, created.stderr
    wait_until(lambda: services.tpu.request("whole").json["state"]["state"] == "ACTIVE")
    environment = {"PATH": f"{tmp_path}:{gcloud.environment['PATH']}"}
    words = ("compute", "tpus", "tpu-vm", "ssh", "whole", "--worker=1", "--command=hostname")
    reached = gcloud.run(*words, environment=environment)
    assert reached.returncode == 0, reached.stderr
    assert "from worker 1" in reached.stdout
    arguments = (tmp_path / "arguments").read_text()
    assert "@192.0.2.3\n--\nhostname\n" in arguments
    assert "ssh-rsa" in services.tpu.node("whole")["metadata"]["ssh-keys"]
    deleted = gcloud.run(*QUEUED, "delete", "whole", "--force", "--quiet")
    assert deleted.returncode == 0, deleted.stderr
    assert services.tpu.holds == []


def test_a_bucket_and_what_its_generations_refuse_are_read(services, gcloud, tmp_path):
    (tmp_path / "file").write_text("content")
    described = gcloud.json("storage", "buckets", "describe", "gs://bucket")
    assert described["location"] == "EUROPE-WEST4"
    first = gcloud.run("storage", "cp", str(tmp_path / "file"), "gs://bucket/a/b", "--if-generation-match=0")
    assert first.returncode == 0, first.stderr
    second = gcloud.run("storage", "cp", str(tmp_path / "file"), "gs://bucket/a/b", "--if-generation-match=0")
    assert second.returncode == 1
    assert "HTTPError 412" in second.stderr
    assert services.storage.read("bucket", "a/b") == b"content"


def test_no_answer_holds_what_the_message_classes_have_not(services, gcloud):
    """Of all answers that the tests above had; gcloud itself passes on a field or a word that it does not know."""
    request_slice(services, "wrong", [])
    services.tpu.set_state("wrong", "FINE", "NOBODY")
    services.tpu.request("wrong").json["reservation"] = "r"
    before = len(services.server.calls)
    ask(services, "GET", f"{PARENT}/queuedResources/wrong")
    wrong = services.server.calls[before:]
    assert unknown_to_gcloud(wrong) == {
        *("QueuedResource.reservation", "QueuedResource.state.state", "QueuedResource.state.stateInitiator")
    }
    del services.tpu.requests[f"{PARENT}/queuedResources/wrong"]
    assert unknown_to_gcloud(services.server.calls[:before]) == set()
