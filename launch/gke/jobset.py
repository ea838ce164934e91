"""Writes the JobSet of a run on Google Kubernetes Engine, for kubectl and Kueue: for TPU7x and clusters with queues.

python launch/gke/jobset.py --name b7 --image IMAGE --accelerator tpu7x --topology 4x4x4 --config configs/b7.py
    --workdir gs://bucket/runs/b7 [--queue Q] [--spot] [--max-restarts N] [-- --config.key=value …] | kubectl apply -f -

It prints JSON, which is YAML. The image is built from launch/gke/Dockerfile. The rules are those of
launch/pod/job/job_decisions.py: a preemption restarts all machines and is not counted, an error that a restart cannot help ends
the run, and anything else is restarted at most N times. It needs only the standard library.
"""

import argparse
import json
import math
import re
import sys

CHIPS_PER_MACHINE = 4
# The values of GKE's node label cloud.google.com/gke-tpu-accelerator, and the number of dimensions of a topology.
ACCELERATORS = {
    "v4": ("tpu-v4-podslice", 3),
    "v5e": ("tpu-v5-lite-podslice", 2),
    "v5p": ("tpu-v5p-slice", 3),
    "v6e": ("tpu-v6e-slice", 2),
    "tpu7x": ("tpu7x", 3),
}
PREEMPTED = 75  # pipeline/errors.py: a checkpoint is saved, start again
HOPELESS = [65, 70, 78]  # pipeline/errors.py: data, training and configuration errors
JAX_COORDINATOR_PORT, TPU_RUNTIME_PORT = 8482, 8471
REPLICATED_JOB = "slice"
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # a DNS label of RFC 1035, which JobSet requires
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")  # RFC 1123
_LABEL_LENGTH, _SUBDOMAIN_LENGTH = 63, 253


def machines(accelerator: str, topology: str) -> int:
    """Returns the number of machines of a slice.

    Raises:
      ValueError: the generation is unknown, or the topology is invalid for it.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"--accelerator={accelerator}: known are {', '.join(ACCELERATORS)}")
    sides = topology.split("x")
    dimensions = ACCELERATORS[accelerator][1]
    if len(sides) != dimensions or not all(re.fullmatch("[1-9][0-9]{0,4}", side) for side in sides):
        example = "x".join(["4"] * dimensions)
        raise ValueError(
            f"--topology={topology}: {accelerator} has topologies of {dimensions} numbers, such as {example}"
        )
    chips = math.prod(int(side) for side in sides)
    if chips % CHIPS_PER_MACHINE:
        raise ValueError(f"--topology={topology}: {chips} chips do not fill machines of {CHIPS_PER_MACHINE}")
    return chips // CHIPS_PER_MACHINE


def check_names(options: argparse.Namespace, count: int) -> None:
    """Applies the rules of the API server and of JobSet's admission for names.

    Args:
      options: the options of the command line.
      count: number of pods in the job; the index of the last one is part of its name.

    Raises:
      ValueError: a name would be refused.
    """
    # The longest derived name is that of the last pod, with five random characters from Kubernetes.
    room = _LABEL_LENGTH - len(f"-{REPLICATED_JOB}-0-{count - 1}-abcde")
    if not _LABEL.fullmatch(options.name) or len(options.name) > room:
        raise ValueError(
            f"--name={options.name}: expected lower-case letters, digits and hyphens, beginning with a letter and not ending "
            f"with a hyphen, at most {room} of them: JobSet makes the names of its pods from it"
        )
    if options.queue and (not _SUBDOMAIN.fullmatch(options.queue) or len(options.queue) > _LABEL_LENGTH):
        raise ValueError(
            f"--queue={options.queue}: expected the name of a LocalQueue, a DNS name of at most 63 characters"
        )
    account = options.service_account
    if account and (not _SUBDOMAIN.fullmatch(account) or len(account) > _SUBDOMAIN_LENGTH):
        hint = "; a Google service account is bound to one of Kubernetes' own" if "@" in account else ""
        raise ValueError(f"--service-account={account}: expected the name of a Kubernetes service account{hint}")
    if not re.match("gs://[^/]", options.workdir):
        raise ValueError(f"--workdir={options.workdir}: expected gs://…, as a pod's own files end with it")
    if options.max_restarts < 0:
        raise ValueError(f"--max-restarts={options.max_restarts}: expected 0 or more")


def jobset(options: argparse.Namespace) -> dict:
    """Returns the manifest as a `jobset.x-k8s.io/v1alpha2` object."""
    count = machines(options.accelerator, options.topology)
    check_names(options, count)
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": options.name,
            "labels": {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {},
            # One slice is one failure domain: all pods of the job land on the same node pool.
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": _failure_policy(options.max_restarts),
            "network": {"enableDNSHostnames": True},
            "replicatedJobs": [
                {
                    "name": REPLICATED_JOB,
                    "replicas": 1,
                    "template": {
                        "spec": {
                            "completionMode": "Indexed",
                            "parallelism": count,
                            "completions": count,
                            "backoffLimit": 0,
                            "podFailurePolicy": _pod_failure_policy(),
                            "template": {"spec": _pod(options)},
                        }
                    },
                }
            ],
        },
    }


def _failure_policy(max_restarts: int) -> dict:
    """Returns the set's reactions to a failed job; the message is that of a matching pod failure policy."""
    return {
        "maxRestarts": max_restarts,
        "rules": [
            {
                "name": "preempted",
                "action": "RestartJobSetAndIgnoreMaxRestarts",
                "onJobFailureReasons": ["PodFailurePolicy"],
                "onJobFailureMessagePatterns": [f"exit code {PREEMPTED} ", "condition DisruptionTarget "],
            },
            {"name": "hopeless", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]},
        ],
    }


def _pod_failure_policy() -> dict:
    """Returns the exit codes of a pod that end the job at once, with a message of their own."""
    codes = {"containerName": "train", "operator": "In", "values": sorted([*HOPELESS, PREEMPTED])}
    return {
        "rules": [
            {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": codes},
        ]
    }


def _pod(options: argparse.Namespace) -> dict:
    """Returns the pod of one machine."""
    selector = {
        "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[options.accelerator][0],
        "cloud.google.com/gke-tpu-topology": options.topology,
    }
    if options.spot:
        selector["cloud.google.com/gke-spot"] = "true"
    chips = {"google.com/tpu": str(CHIPS_PER_MACHINE)}
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 300,  # for the checkpoint after SIGTERM
        "nodeSelector": selector,
        **({"serviceAccountName": options.service_account} if options.service_account else {}),
        "containers": [
            {
                "name": "train",
                "image": options.image,
                # State the platform, because JAX uses the CPU if a machine shows no TPU.
                "args": [
                    *(f"--config={options.config}", f"--workdir={options.workdir}", "--config.platform=tpu"),
                    *options.overrides,
                ],
                "ports": [{"containerPort": JAX_COORDINATOR_PORT}, {"containerPort": TPU_RUNTIME_PORT}],
                "resources": {"requests": chips, "limits": chips},
            }
        ],
    }


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parses the command line; arguments after `--` go to the trainer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--name", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--accelerator", required=True, help=", ".join(ACCELERATORS))
    parser.add_argument("--topology", required=True, help="such as 4x4 or 4x4x4")
    parser.add_argument("--config", required=True, help="a path in the image, such as configs/b7.py")
    parser.add_argument("--workdir", required=True, help="gs://…")
    parser.add_argument("--queue", default="", help="Kueue's local queue")
    parser.add_argument("--service-account", default="")
    parser.add_argument("--spot", action="store_true")
    parser.add_argument("--max-restarts", type=int, default=20)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:split])
    options.overrides = arguments[split + 1 :]
    return options


def main() -> None:
    try:
        print(json.dumps(jobset(parse(sys.argv[1:])), indent=2))
    except ValueError as error:
        sys.exit(f"jobset.py: {error}")


if __name__ == "__main__":
    main()
