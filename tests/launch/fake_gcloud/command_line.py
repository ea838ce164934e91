"""The command line of the stand-in: the calls that the launcher makes, with the flags that gcloud 528 has for them.

A flag that gcloud does not have is an error here too. Every call is written to `calls.jsonl`.
"""

import json
import os
import re
import shutil
import signal
import sys
import tarfile
import time
from pathlib import Path

from fake_gcloud import machines
from fake_gcloud.scenario import next_fault
from fake_gcloud.service import Service, ServiceError

COMMON_FLAGS = {"format", "project", "quiet", "zone", "filter"}
FLAGS = {
    "auth list": set(),
    "storage buckets describe": set(),
    "storage cat": set(),
    "storage objects describe": set(),
    "storage cp": {"if-generation-match"},
    "storage rm": set(),
    "compute tpus accelerator-types describe": set(),
    "compute tpus queued-resources create": {
        *("node-id", "accelerator-type", "runtime-version", "spot", "reserved", "async", "network", "service-account")
    },
    "compute tpus queued-resources describe": set(),
    "compute tpus queued-resources delete": {"force", "async"},
    "compute tpus tpu-vm describe": set(),
    "compute tpus tpu-vm delete": set(),
    "compute tpus tpu-vm ssh": {"worker", "command", "output-directory"},
    "compute tpus tpu-vm scp": {"worker"},
    "alpha compute tpus tpu-vm simulate-maintenance-event": {"workers"},
}
CONNECTION_LOST = 255  # the status of an ssh that lost its connection


def parse(arguments: list[str]) -> tuple[str, list[str], dict[str, str]]:
    """Splits a command line into the command's name, its positional arguments and its flags."""
    words = [argument for argument in arguments if not argument.startswith("--")]
    flags = dict(argument[2:].partition("=")[::2] for argument in arguments if argument.startswith("--"))
    for name in sorted(FLAGS, key=len, reverse=True):
        if words[: len(name.split())] == name.split():
            if unknown := set(flags) - FLAGS[name] - COMMON_FLAGS:
                raise ServiceError(f"unrecognized arguments: --{', --'.join(sorted(unknown))}")
            return name, words[len(name.split()) :], flags
    raise ServiceError(f"Invalid choice: '{' '.join(words)}'")


def run(folder: Path, arguments: list[str]) -> int:
    """Carries out one call; returns the exit status."""
    service = Service(folder)
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    with service.changing():
        fault = next_fault(service.scenario, " ".join(arguments)) or {}
    name, words, flags = parse(arguments)
    match fault.get("do"):
        case "fail":
            raise ServiceError(fault["text"])
        case "hang":
            time.sleep(60)
        case "kill":  # the supervisor, while this call of its is under way
            os.kill(int(next(Path(os.environ["POD_RECORDS"]).glob("*/supervisor")).read_text()), signal.SIGKILL)
        case "preempt":
            with service.changing():
                service.preempt(words[0].partition(":")[0], fault.get("state", "PREEMPTED"))
        case "take over":  # another supervisor writes the lock just before this call does
            with service.changing():
                path = service.bucket_path(words[1])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"another:/records 1 {int(time.time())}\n")
                service.written(path)
    if name.endswith(("ssh", "scp")):
        return (_ssh if name.endswith("ssh") else _scp)(service, words, flags, fault)
    with service.changing():
        answer = _answer(service, name, words, flags)
    if answer:
        print(answer)
    if fault.get("do") == "fail after":
        raise ServiceError(fault["text"])
    return 0


def _answer(service: Service, name: str, words: list[str], flags: dict[str, str]) -> str:
    """The calls that one look at the state answers."""
    match name:
        case "auth list":
            return service.scenario["account"]
        case "compute tpus accelerator-types describe":
            if words[0] not in service.scenario["types"]:
                raise ServiceError(f"NOT_FOUND: Resource 'acceleratorTypes/{words[0]}' was not found")
        case "compute tpus queued-resources create":
            service.create(words[0], flags["accelerator-type"], flags["node-id"], flags)
        case "compute tpus queued-resources describe":
            return service.request(words[0])["state"]
        case "compute tpus queued-resources delete":
            service.delete(words[0], "force" in flags)
        case "compute tpus tpu-vm describe":
            node = service.node(words[0])
            return f"{node['node_state']}\t{node['workers']}\t{node['type']}"
        case "compute tpus tpu-vm delete":
            service.node(words[0])["node_state"] = "GONE"
            machines.destroy(service.folder, words[0])
        case "alpha compute tpus tpu-vm simulate-maintenance-event":
            service.preempt(words[0])
        case "storage buckets describe":
            service.bucket_path(words[0])
            return service.scenario["buckets"][words[0].removeprefix("gs://").rstrip("/")]
        case "storage cat":
            path = service.bucket_path(words[0])
            if not path.exists():
                raise ServiceError(f"The following URLs matched no objects or files:\n-{words[0]}")
            return path.read_text()
        case "storage objects describe":
            path = service.bucket_path(words[0])
            if not path.exists():
                raise ServiceError(f"HTTPError 404: {words[0]} not found: 404.")
            return str(service.generation(path))
        case "storage rm":
            path = service.bucket_path(words[0])
            if not path.exists():
                raise ServiceError(f"The following URLs matched no objects or files:\n-{words[0]}")
            path.unlink()
        case "storage cp":
            path = service.bucket_path(words[1])
            wanted = flags.get("if-generation-match")
            if wanted is not None and wanted != str(service.generation(path)):
                raise ServiceError("HTTPError 412: At least one of the pre-conditions you specified did not hold.")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(words[0], path)
            service.written(path)
    return ""


def _targets(service: Service, node: str, worker: str) -> list[int]:
    """The workers that a call is for; gcloud refuses one whose machines are not there."""
    with service.changing():
        state = [r for r in service.state["requests"].values() if r["node"] == node and r["node_state"]]
        if not state or state[0]["node_state"] == "GONE":
            raise ServiceError(f"NOT_FOUND: Resource 'nodes/{node}' was not found")
        if state[0]["node_state"] in ("PREEMPTED", "TERMINATED", "STOPPED", "DELETING"):
            raise ServiceError(f"TPU is in state {state[0]['node_state']} and can not be used")
        return list(range(state[0]["workers"])) if worker == "all" else [int(worker)]


def _ssh(service: Service, words: list[str], flags: dict[str, str], fault: dict) -> int:
    """Runs the command on each worker at the same time, twice where a connection breaks the first time, as gcloud does."""
    node, output = words[0], Path(flags["output-directory"])
    targets = _targets(service, node, flags["worker"])
    if not output.is_dir():
        raise ServiceError(f"Failed to find directory {output}")
    command = " ".join(flags["command"].split(" "))  # what gcloud makes of it on the way
    unreachable = {"all": targets}.get(fault.get("worker"), [fault.get("worker", 0)])
    statuses = {}
    for turn in range(2 if fault.get("do") == "reconnect" else 1):
        started = {}
        for index in targets:
            if fault.get("do") == "cut off" and index in unreachable:
                statuses[index] = CONNECTION_LOST
                continue
            with (output / f"{index}.log").open("wb" if turn == 0 else "ab") as log:
                started[index] = machines.start(service.folder, node, index, command, log)
        if fault.get("do") == "preempt during":
            time.sleep(fault.get("after", 0.05))
            with service.changing():
                service.preempt(node, fault.get("state", "PREEMPTED"))
        for index, process in started.items():
            status = process.wait()
            statuses[index] = CONNECTION_LOST if status < 0 else status
        if fault.get("do") == "cut off after":  # the command was carried out, and nobody heard of it
            for index in unreachable:
                statuses[index] = CONNECTION_LOST
                (output / f"{index}.log").write_text("")
    return next((status for status in statuses.values() if status), 0)


def _scp(service: Service, words: list[str], flags: dict[str, str], fault: dict) -> int:
    """Copies files to each worker; a preemption during it leaves the first half of the workers with the files."""
    node, _, destination = words[-1].partition(":")
    targets = _targets(service, node, flags["worker"])
    if fault.get("do") in ("preempt during", "cut off", "damage"):
        half = targets[: len(targets) // 2]
    else:
        half = targets
    for index in half:
        home = service.folder / "machines" / node / str(index)
        for source in words[:-1]:
            shutil.copy(source, home / re.sub("^~/", "", destination))
    if fault.get("do") == "damage":  # an archive that can be unpacked, and is another one
        for index in targets[len(half) :]:
            folder = service.folder / "machines" / node / str(index) / destination
            with tarfile.open(folder / Path(words[0]).name, "w:gz"):
                pass
            (folder / Path(words[1]).name).touch()
    if fault.get("do") == "preempt during":
        with service.changing():
            service.preempt(node, fault.get("state", "PREEMPTED"))
    return CONNECTION_LOST if fault.get("do") in ("preempt during", "cut off") else 0


def main() -> None:
    """Runs as `gcloud`."""
    try:
        sys.exit(run(Path(os.environ["FAKE_GCLOUD"]), sys.argv[1:]))
    except ServiceError as error:
        print(f"ERROR: (gcloud.{'.'.join(sys.argv[1:4])}) {error}", file=sys.stderr)
        sys.exit(1)
