"""Formats requests as commands of gcloud 528: for `--dry-run`, for messages, and for `ssh`.

Each command sends exactly the request that `service.py` and `bucket.py` send; tests/launch compares them on the wire. If
gcloud has no option for something, the command is curl's. The only command that is run here is `gcloud config get-value`.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pod.services.compute import IMAGE_FAMILY, IMAGE_PROJECT, MACHINE_TYPE, MachineRequest
from pod.services.endpoints import Endpoints, find_endpoints
from pod.services.service import ALPHA, FLEX_START, RESERVED, SPOT, STABLE, SliceRequest

_STARTUP_SCRIPT = "startup-script"


def line(command: Sequence[str]) -> str:
    """Returns a command quoted for a shell."""
    return " ".join(shlex.quote(word) for word in command)


def create(request: SliceRequest, startup_script: Path, endpoints: Endpoints | None = None) -> str:
    """Returns the command that requests a slice.

    Args:
      request: the request for it.
      startup_script: the file with the metadata entry "startup-script".
      endpoints: the services' URLs, for curl.
    """
    if request.boot_disk_gb:  # gcloud has an option for encrypted boot disks, none for their size
        base = (endpoints or find_endpoints()).tpu
        url = f"{base}{request.version}/{request.parent}/queuedResources?queuedResourceId={request.name}"
        return curl("POST", url, request.body())
    words = [*_tpus(request.version), "queued-resources", "create", request.name, f"--node-id={request.name}"]
    words += [f"--accelerator-type={request.accelerator_type}", f"--runtime-version={request.runtime_version}"]
    words += [f"--network={request.network}"]
    if request.subnetwork:
        words.append(f"--subnetwork={request.subnetwork}")
    if request.internal_ips:
        words.append("--internal-ips")
    if request.service_account:
        words.append(f"--service-account={request.service_account}")
    if request.provisioning == SPOT:
        words.append("--spot")
    elif request.provisioning == FLEX_START:
        words.append("--provisioning-model=flex-start")
    elif request.reservation:
        words.append(f"--reservation={request.reservation_name}")
    elif request.provisioning == RESERVED:
        words.append("--reserved")
    if request.max_run_seconds:
        words.append(f"--max-run-duration={request.max_run_seconds}s")
    if request.valid_until_seconds:
        words.append(f"--valid-until-duration={request.valid_until_seconds}s")
    entries = {key: value for key, value in request.metadata.items() if key != _STARTUP_SCRIPT}
    if entries:
        words.append(f"--metadata={_dictionary(entries)}")
    if _STARTUP_SCRIPT in request.metadata:
        words.append(f"--metadata-from-file={_dictionary({_STARTUP_SCRIPT: str(startup_script)})}")
    return line([*words, "--async", *_place(request.project, request.zone)])


def describe_queued_resource(name: str, project: str, zone: str, version: str = STABLE) -> str:
    """Returns the command that shows a queued resource."""
    return line([*_tpus(version), "queued-resources", "describe", name, *_place(project, zone)])


def describe_node(name: str, project: str, zone: str, version: str = STABLE) -> str:
    """Returns the command that shows a node."""
    return line([*_tpus(version), "tpu-vm", "describe", name, *_place(project, zone)])


def delete_queued_resource(name: str, project: str, zone: str, version: str = STABLE) -> str:
    """Returns the command that deletes a queued resource with its nodes."""
    words = [*_tpus(version), "queued-resources", "delete", name, "--force", "--quiet", "--async"]
    return line([*words, *_place(project, zone)])


def delete_node(name: str, project: str, zone: str, version: str = STABLE) -> str:
    """Returns the command that deletes a node."""
    return line([*_tpus(version), "tpu-vm", "delete", name, "--quiet", "--async", *_place(project, zone)])


def list_queued_resources(project: str, zone: str) -> str:
    """Returns the command that lists the queued resources of a zone."""
    return line([*_tpus(STABLE), "queued-resources", "list", *_place(project, zone)])


def describe_accelerator_type(name: str, project: str, zone: str) -> str:
    """Returns the command that shows whether a zone has a type."""
    return line([*_tpus(STABLE), "tpu-vm", "accelerator-types", "describe", name, *_place(project, zone)])


def list_accelerator_types(project: str, zone: str) -> str:
    """Returns the command that lists the types of a zone."""
    return line([*_tpus(STABLE), "tpu-vm", "accelerator-types", "list", *_place(project, zone)])


def simulate_maintenance(name: str, project: str, zone: str, workers: Sequence[int]) -> str:
    """Returns the command that makes the service act as if it preempted machines."""
    words = [*_tpus(ALPHA), "tpu-vm", "simulate-maintenance-event", name, "--quiet", "--async"]
    if workers:
        words.append(f"--workers={','.join(str(worker) for worker in workers)}")
    return line([*words, *_place(project, zone)])


def create_instance(request: MachineRequest, startup_script: Path) -> str:
    """Returns the command that creates a small virtual machine.

    Args:
      request: the request for it.
      startup_script: the file that holds the metadata entry "startup-script".
    """
    words = ["gcloud", "compute", "instances", "create", request.name, f"--machine-type={MACHINE_TYPE}"]
    words += [f"--image-family={IMAGE_FAMILY}", f"--image-project={IMAGE_PROJECT}", f"--network={request.network}"]
    if request.subnetwork:
        words.append(f"--subnet={request.subnetwork}")
    if request.internal_ips:
        words.append("--no-address")
    if request.service_account:
        words.append(f"--service-account={request.service_account}")
    words.append("--scopes=cloud-platform")
    if request.max_run_seconds:
        words += [f"--max-run-duration={request.max_run_seconds}s", "--instance-termination-action=DELETE"]
    entries = {key: value for key, value in request.metadata.items() if key != _STARTUP_SCRIPT}
    words.append(f"--metadata={_dictionary(entries)}")
    words.append(f"--metadata-from-file={_dictionary({_STARTUP_SCRIPT: str(startup_script)})}")
    return line([*words, "--async", *_place(request.project, request.zone)])


def delete_instance(name: str, project: str, zone: str) -> str:
    """Returns the command that deletes a virtual machine."""
    return line(["gcloud", "compute", "instances", "delete", name, "--quiet", *_place(project, zone)])


def ssh(name: str, worker: int, project: str, zone: str, internal_ip: bool, version: str = STABLE) -> list[str]:
    """Returns the command that opens a shell on a worker."""
    words = [*_tpus(version), "tpu-vm", "ssh", name, f"--worker={worker}"]
    return [*words, *(["--internal-ip"] if internal_ip else []), *_place(project, zone)]


def access_token() -> str:
    """Returns the command that prints an access token."""
    return "gcloud --quiet config config-helper --min-expiry=600s --format=json"


def describe_bucket(bucket: str) -> str:
    """Returns the command that prints the location of a bucket."""
    return line(["gcloud", "storage", "buckets", "describe", f"gs://{bucket}"])


def describe_project(project: str) -> str:
    """Returns the command that prints a project's number."""
    return line(["gcloud", "projects", "describe", project])


def project_policy(project: str) -> str:
    """Returns the command that prints a project's policy."""
    return line(["gcloud", "projects", "get-iam-policy", project])


def bucket_policy(bucket: str) -> str:
    """Returns the command that prints a bucket's policy."""
    return line(["gcloud", "storage", "buckets", "get-iam-policy", f"gs://{bucket}"])


def read_object(url: str) -> str:
    """Returns the command that prints an object."""
    return line(["gcloud", "storage", "cat", url])


def list_objects(url: str) -> str:
    """Returns the command that lists the objects below a folder."""
    return line(["gcloud", "storage", "ls", f"{url}**"])


def remove_object(url: str) -> str:
    """Returns the command that deletes an object."""
    return line(["gcloud", "storage", "rm", url])


def write_object(source: str, url: str, generation: int | None = None) -> str:
    """Returns the command that writes the output of `source` to an object.

    Args:
      source: a shell command.
      url: gs://…
      generation: the required generation of the object; 0: it must not exist; None: any.
    """
    condition = [] if generation is None else [f"--if-generation-match={generation}"]
    return f"{source} | {line(['gcloud', 'storage', 'cp', '-', url, *condition])}"


def curl(method: str, url: str, body: object) -> str:
    """Returns a request as a command of curl."""
    token = '--header "Authorization: Bearer $(gcloud auth print-access-token)"'
    words = ["--header", "Content-Type: application/json", "--data", json.dumps(body), url]
    return f"curl --fail --request {method} {token} {line(words)}"


def configured(what: str) -> str:
    """Returns a property of gcloud's configuration, such as "compute/zone"; "" without it or without gcloud."""
    try:
        words = ["gcloud", "config", "get-value", what, "--quiet"]
        answer = subprocess.run(words, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    value = answer.stdout.strip()
    return "" if answer.returncode or value == "(unset)" else value


def _tpus(version: str) -> list[str]:
    return ["gcloud", *(["alpha"] if version == ALPHA else []), "compute", "tpus"]


def _place(project: str, zone: str) -> list[str]:
    return [f"--zone={zone}", f"--project={project}"]


def _dictionary(entries: Mapping[str, str]) -> str:
    """Returns a dictionary in gcloud's notation, with another separator if a value has a comma."""
    plain = [f"{key}={value}" for key, value in entries.items()]
    if not any("," in entry for entry in plain):
        return ",".join(plain)
    separator = next(sign for sign in ":|;#@%" if not any(sign in entry for entry in plain))
    return f"^{separator}^" + separator.join(plain)
