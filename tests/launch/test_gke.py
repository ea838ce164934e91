"""The JobSet against the fields that the API references of JobSet v1alpha2, Job and Pod have, and against GKE's rules."""

import json
import re
import subprocess
import sys

import pytest
from cloud.bed import REPOSITORY

# Fields and types as the references name them, as far as a training job has use for them; a field that is not there is
# refused by the API server. A list holds the type of its elements; {str: T} is a map; a set is an enumeration.
QUANTITIES = {str: str}
POD = {
    "restartPolicy": {"Never", "OnFailure"},
    "terminationGracePeriodSeconds": int,
    "nodeSelector": {str: str},
    "serviceAccountName": str,
    "containers": [
        {
            "name": str,
            "image": str,
            "args": [str],
            "ports": [{"containerPort": int}],
            "resources": {"requests": QUANTITIES, "limits": QUANTITIES},
        }
    ],
}
POD_FAILURE_RULE = {
    "action": {"FailJob", "FailIndex", "Ignore", "Count"},
    "onPodConditions": [{"type": str, "status": {"True", "False", "Unknown"}}],
    "onExitCodes": {"containerName": str, "operator": {"In", "NotIn"}, "values": [int]},
}
JOB = {
    "completionMode": {"Indexed", "NonIndexed"},
    "parallelism": int,
    "completions": int,
    "backoffLimit": int,
    "podFailurePolicy": {"rules": [POD_FAILURE_RULE]},
    "template": {"spec": POD},
}
FAILURE_RULE = {
    "name": str,
    "action": {
        *("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"),
        *("RestartJob", "RestartJobAndIgnoreMaxRestarts"),
    },
    "onJobFailureReasons": [
        {"BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"}
    ],
    "onJobFailureMessagePatterns": [str],
}
JOBSET = {
    "apiVersion": {"jobset.x-k8s.io/v1alpha2"},
    "kind": {"JobSet"},
    "metadata": {"name": str, "labels": {str: str}, "annotations": {str: str}},
    "spec": {
        "failurePolicy": {"maxRestarts": int, "rules": [FAILURE_RULE]},
        "network": {"enableDNSHostnames": bool},
        "replicatedJobs": [{"name": str, "replicas": int, "template": {"spec": JOB}}],
    },
}


def check(value, schema, path="") -> None:
    """Raises AssertionError where a value does not have the form of the schema."""
    if isinstance(schema, set):
        assert value in schema, path
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for index, element in enumerate(value):
            check(element, schema[0], f"{path}[{index}]")
    elif isinstance(schema, dict):
        assert isinstance(value, dict), path
        for key, element in value.items():
            assert key in schema or str in schema, f"{path}.{key}"
            check(element, schema.get(key, schema.get(str)), f"{path}.{key}")
    else:
        assert type(value) is schema, path


def manifest(*arguments: str) -> subprocess.CompletedProcess:
    """Runs the generator for a TPU7x slice; later arguments come first."""
    defaults = ["--name=b7", "--image=image", "--accelerator=tpu7x", "--topology=2x2x4", "--config=configs/b7.py"]
    command = [sys.executable, "launch/gke/jobset.py", *defaults, "--workdir=gs://bucket/b7", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_the_manifest_has_the_form_of_the_api():
    result = manifest("--queue=users", "--spot", "--service-account=trainer", "--", "--config.seed=1 2")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout)
    check(content, JOBSET)
    pod = content["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == [
        *("--config=configs/b7.py", "--workdir=gs://bucket/b7", "--config.platform=tpu", "--config.seed=1 2")
    ]
    assert content["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "users"}


def test_the_check_itself_notices_a_wrong_field():
    content = json.loads(manifest().stdout)
    content["spec"]["replicatedJobs"][0]["template"]["spec"]["backofLimit"] = 0
    with pytest.raises(AssertionError, match="backofLimit"):
        check(content, JOBSET)


@pytest.mark.parametrize(
    ("accelerator", "topology", "hosts"),
    [("tpu7x", "2x2x1", 1), ("tpu7x", "4x4x4", 16), ("v5e", "4x8", 8), ("v6e", "16x16", 64), ("v5p", "2x2x4", 4)],
)
def test_a_pod_for_each_machine(accelerator, topology, hosts):
    """GKE's tables of slices: nodes of multi-host slices have 4 chips."""
    job = json.loads(manifest(f"--accelerator={accelerator}", f"--topology={topology}").stdout)
    job = job["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["parallelism"], job["completions"]) == (hosts, hosts)
    assert job["template"]["spec"]["containers"][0]["resources"]["limits"] == {"google.com/tpu": "4"}


def test_the_longest_name_that_is_taken_makes_pod_names_that_kubernetes_takes():
    """As JobSet's own admission counts: NAME-slice-0-POD, and a suffix of five characters, in 63."""
    content = json.loads(manifest("--name=" + "a" * 46, "--topology=4x4x4").stdout)
    (job,) = content["spec"]["replicatedJobs"]
    last = job["template"]["spec"]["completions"] - 1
    assert len(f"{content['metadata']['name']}-{job['name']}-0-{last}-abcde") == 63


# What Kubernetes writes when a pod failure policy matched, and what must follow.
@pytest.mark.parametrize(
    ("message", "action"),
    [
        (
            "Container train for pod d/b7 failed with exit code 75 matching FailJob rule at index 1",
            "RestartJobSetAndIgnoreMaxRestarts",
        ),
        (
            "Pod d/b7 has condition DisruptionTarget matching FailJob rule at index 0",
            "RestartJobSetAndIgnoreMaxRestarts",
        ),
        ("Container train for pod d/b7 failed with exit code 78 matching FailJob rule at index 1", "FailJobSet"),
    ],
)
def test_ends_mean_what_they_mean_to_the_supervisor(message, action):
    for rule in json.loads(manifest().stdout)["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if any(re.search(pattern, message) for pattern in patterns):
            assert rule["action"] == action
            return


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--accelerator=v9"], "known are"),
        (["--topology=4x4"], "topologies of 3 numbers"),
        (["--topology=1x1x1"], "do not fill machines"),
        (["--topology=4x4x²"], "topologies of 3 numbers"),
        (["--workdir=runs/b7"], "a pod's own files end with it"),
        (["--name=B7"], "expected lower-case letters"),
        (["--name=7b"], "beginning with a letter"),
        (["--name=b7-"], "not ending with a hyphen"),
        (["--name=b.7"], "expected lower-case letters"),
        (["--name="], "expected lower-case letters"),
        (["--name=" + "a" * 48], "at most 47"),
        (["--name=" + "a" * 47, "--topology=4x4x4"], "at most 46"),  # pods from 10 on have one digit more
        (["--queue=Users"], "LocalQueue"),
        (["--service-account=trainer@p.iam.gserviceaccount.com"], "Kubernetes' own"),
        (["--max-restarts=-1"], "expected 0 or more"),
    ],
)
def test_what_cannot_work(arguments, said):
    result = manifest(*arguments)
    assert result.returncode == 1
    assert said in result.stderr
