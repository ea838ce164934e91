"""Each command that `--dry-run` prints is run by the real gcloud, and the request that arrives equals the launcher's own.

Compared are method, path, query and body, but for ids and times. gcloud runs once for each kind of command.
"""

import json
import re
import shlex
import subprocess

import pytest
from cloud.bed import RUN, Cloud
from cloud.real_gcloud import Gcloud, find_gcloud, unknown_to_gcloud
from cloud.server import Call
from cloud.tpu_errors import permission_error

WORD = re.compile(r"\b[0-9a-f]{16}\b")  # an incarnation, or another random identifier
FORM = ("alt", "projection", "fields", "prettyPrint", "maxResults", "delimiter", "includeFoldersAsPrefixes")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    find_gcloud()
    made = Cloud(tmp_path_factory.mktemp("requests"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def gcloud(cloud, tmp_path_factory):
    return Gcloud(tmp_path_factory.mktemp("gcloud") / "gcloud", cloud.services)


def printed(cloud: Cloud, *arguments: str) -> list[str]:
    """The commands of a dry run."""
    status, output = cloud.run(*arguments, "--dry-run")
    assert status == 0, output
    lines = re.split(r"\n(?=gcloud |curl |printf |python3 |PYTHONPATH=)", "\n" + output)
    return [line.rstrip("\n") for line in lines[1:]]


def execute(cloud: Cloud, gcloud: Gcloud, line: str, **environment: str) -> list[Call]:
    """Runs a printed command in a shell; returns the requests that arrived meanwhile."""
    before = len(cloud.server.calls)
    result = subprocess.run(
        ["bash", "-c", line],
        cwd=cloud.checkout,
        env=gcloud.environment | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    calls = cloud.server.calls[before:]
    assert calls or "config-helper" in line, result.stderr
    return calls


def essence(call: Call):
    """What is compared of a request."""
    query = {key: value for key, value in call.query.items() if key not in FORM}
    if "force" in query:
        query["force"] = query["force"].lower()
    body = None
    if call.headers.get("content-type", "").startswith("multipart/related"):
        boundary = re.search(r"boundary=['\"]?([^'\"; ]+)", call.headers["content-type"])[1].encode()
        first, second = call.data.split(b"--" + boundary)[1:3]
        name = re.search(rb'"name": ?"([^"]*)"', first)[1].decode()
        content = re.split(rb"\r?\n\r?\n", second, maxsplit=1)[1].removesuffix(b"\n").removesuffix(b"\r")
        body = (name, content)
    elif call.data:
        body = without_defaults(call.body)
    return call.method, call.path, query, body


def without_defaults(value):
    """A message without the fields that say what their absence says, and without random identifiers."""
    if isinstance(value, dict):
        return {key: without_defaults(inner) for key, inner in value.items() if inner is not False}
    if isinstance(value, list):
        return [without_defaults(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"\d+s", value):  # until the deadline, which a run that is joined keeps
        return f"{-(-int(value[:-1]) // 60)} minutes"
    return WORD.sub("WORD", value) if isinstance(value, str) else value


OPTIONS = {
    "network": (
        "--network=net",
        "--subnetwork=sub",
        "--internal-ips",
        "--service-account=a@project.iam.gserviceaccount.com",
    ),
    "spot": ("--spot", "--valid-until=6"),
    "reserved": ("--reserved",),
    "reservation": ("--reservation=r-1", "--internal-ips"),
    "flex-start": ("--flex-start", "--max-run-duration=2", "--deadline=3"),
    "boot disk": ("--boot-disk-size=200", "--spot"),
}


def test_a_slice_is_asked_for_as_gcloud_asks_for_it(cloud, gcloud):
    """For every option that says what the slice is to be."""
    pattern = "POST .*queuedResources"
    for policy in (cloud.services.admin.bindings, cloud.storage.bindings):
        policy[0]["members"].append("serviceAccount:a@project.iam.gserviceaccount.com")

    def both(options: tuple[str, ...]) -> tuple:
        (line,) = [
            line for line in printed(cloud, *RUN, *options) if re.search(r"queued-?[rR]esources(\?| create)", line)
        ]
        with cloud.server.failing(f"user {pattern}", error=permission_error()):
            status, output = cloud.run(*RUN, *options)
            assert status == 1, output
            assert "tpu.nodes.create" in output, output
            ours = cloud.server.seen(pattern)[-1]
            execute(cloud, gcloud, line)
            theirs = cloud.server.seen(pattern)[-1]
        assert ours is not theirs
        for name in cloud.storage.names("bucket"):
            cloud.storage.delete("bucket", name)
        return essence(ours), essence(theirs), line

    for name, options in OPTIONS.items():
        ours, theirs, line = both(options)
        assert ours == theirs, name
        assert line.startswith("curl " if "boot disk" in name else "gcloud "), name


def test_a_controller_is_asked_for_as_gcloud_asks_for_it(cloud, gcloud):
    """With all options that reach it."""
    options = ("--controller", "--network=net", "--subnetwork=sub", "--internal-ips")
    (line,) = [line for line in printed(cloud, *RUN, *options) if " instances create " in line]
    pattern = "user POST /compute/.*/instances$"
    with cloud.server.failing(pattern, error=permission_error("compute.instances.create")):
        status, output = cloud.run(*RUN, *options)
        assert status == 1, output
        assert "compute.instances.create" in output
        ours = cloud.server.seen(pattern)[-1]
        execute(cloud, gcloud, line)
        theirs = cloud.server.seen(pattern)[-1]
    assert ours is not theirs
    one, other = essence(ours), essence(theirs)
    for body in (one[3], other[3]):
        body["metadata"]["items"].sort(key=lambda item: item["key"])
    assert one == other


def kind_of(line: str) -> str:
    """The commands in a line, without what they are about."""
    words = shlex.split(line)
    words = words[words.index("gcloud") :]
    verbs = [word for word in words if re.fullmatch(r"[a-z][a-z-]+", word)]
    generation = next((word for word in words if word.startswith("--if-generation-match=")), "")
    place = next((word for word in words if re.search("/(code|environment)-", word)), "").rsplit("/", 1)[-1][:4]
    return " ".join([*verbs, *([place, generation] if "cp" in verbs else [])])


def effects(calls: list[Call]) -> list[tuple]:
    """What is compared of requests about objects: what is read, written or deleted, and on which condition."""
    found: list[tuple] = []
    condition = ""
    for call in calls:
        condition = call.query.get("ifGenerationMatch", condition if call.method == "PUT" else "")
        match = re.match(r"(?:/download)?/storage/v1/b/([^/]+)/o/(.+)", call.path)
        if match:
            found.append(("read" if call.method == "GET" else call.method, match[1], match[2]))
        elif call.path.startswith("/upload/"):
            if call.query["uploadType"] == "resumable" and call.method == "POST":
                continue  # names the object and the condition; the content comes with a PUT
            name, content = (call.query["name"], call.data) if call.method == "PUT" else essence(call)[3]
            if not name.endswith(".tar.gz"):
                content = json.dumps(json.loads(content), sort_keys=True)
                content = re.sub(r"\d{10}(\.\d+)?", "TIME", WORD.sub("WORD", content))
            when = "another" if condition not in ("", "0") else condition
            found.append(("write", WORD.sub("WORD", name), content, when))
        else:
            method, path, query, body = essence(call)
            found.append((method, path, {key: value for key, value in query.items() if key != "prefix"}, body))
    return found


def test_every_other_request_of_a_run_is_gclouds_too(cloud, gcloud):
    """Objects are compared by what is read and written: to read one gcloud looks twice, and before it writes once more."""
    environment = ("--env", "GIVEN_KEY=value")
    lines = printed(cloud, *RUN, *environment)
    status, output = cloud.run(*RUN, *environment)
    assert status == 0, output
    cloud.run("simulate", "--name", "t", "--worker", "1")
    lines += printed(cloud, "simulate", "--name", "t", "--worker", "1")
    ours = effects([call for call in cloud.server.calls if call.who == "user"])

    kinds = {kind_of(line): line for line in reversed(lines) if "queued-resources create" not in line}
    for kind, line in kinds.items():
        theirs = effects(execute(cloud, gcloud, line, GIVEN_KEY="value"))
        if "config-helper" in kind:
            assert theirs == []
        elif "storage cp" in kind:
            written = [each for each in theirs if each[0] == "write"]
            assert written, line
            assert written[-1] in ours, line
        else:
            assert any(each in ours for each in theirs), line
            assert all(each in ours for each in theirs if each[0] != "read"), line
    assert len(kinds) > 12
    assert unknown_to_gcloud(cloud.server.calls) == set()
