"""The fields of a request for a slice that Cloud TPU knows, for each version of its API.

The service refuses a name that is not here, as Google's does. `test_gcloud_reads.py` compares the table with the message
classes of the installed gcloud.
"""

from __future__ import annotations

from cloud.server import ApiError

STRING, BOOLEAN, NUMBER, LONG, MAP, STRINGS = "string", "boolean", "number", "long", "map", "strings"

_NETWORK = {
    "canIpForward": BOOLEAN,
    "enableExternalIps": BOOLEAN,
    "network": STRING,
    "queueCount": NUMBER,
    "subnetwork": STRING,
}
_QUEUEING = {
    "validAfterDuration": STRING,
    "validAfterTime": STRING,
    "validInterval": {"endTime": STRING, "startTime": STRING},
    "validUntilDuration": STRING,
    "validUntilTime": STRING,
}
_NODE = {
    "acceleratorConfig": {"topology": STRING, "type": STRING},
    "acceleratorType": STRING,
    "cidrBlock": STRING,
    "dataDisks": [{"mode": STRING, "sourceDisk": STRING}],
    "description": STRING,
    "labels": MAP,
    "metadata": MAP,
    "networkConfig": _NETWORK,
    "networkConfigs": [_NETWORK],
    "runtimeVersion": STRING,
    "schedulingConfig": {"preemptible": BOOLEAN, "reserved": BOOLEAN, "spot": BOOLEAN},
    "serviceAccount": {"email": STRING, "scope": STRINGS},
    "shieldedInstanceConfig": {"enableSecureBoot": BOOLEAN},
    "tags": STRINGS,
}
_ALPHA_NODE = {
    "dataDisks": [{"mode": STRING, "sourceDisk": STRING, "workerIds": STRINGS}],
    "schedulingConfig": {
        "preemptible": BOOLEAN,
        "provisioningModel": STRING,
        "reservationName": STRING,
        "reserved": BOOLEAN,
        "spot": BOOLEAN,
    },
    "autocheckpointEnabled": BOOLEAN,
    "bootDiskConfig": {
        "customerEncryptionKey": {"kmsKeyName": STRING},
        "diskSizeGb": LONG,
        "enableConfidentialCompute": BOOLEAN,
        "provisionedIops": LONG,
        "provisionedThroughput": LONG,
        "sourceImage": STRING,
    },
}
QUEUED_RESOURCE = {
    "v2": {
        "guaranteed": {"minDuration": STRING},
        "queueingPolicy": _QUEUEING,
        "reservationName": STRING,
        "spot": {},
        "tpu": {
            "nodeSpec": [
                {
                    "multisliceParams": {"nodeCount": NUMBER, "nodeIdPrefix": STRING},
                    "node": _NODE,
                    "nodeId": STRING,
                    "parent": STRING,
                }
            ]
        },
    },
    "v2alpha1": {
        "bestEffort": {},
        "guaranteed": {"minDuration": STRING, "reserved": BOOLEAN},
        "provisioningModel": STRING,
        "queueingPolicy": _QUEUEING,
        "reservationName": STRING,
        "runDuration": {"maxRunDuration": STRING, "terminationTime": STRING},
        "spot": {},
        "tpu": {"nodeSpec": [{"node": _NODE | _ALPHA_NODE, "nodeId": STRING, "parent": STRING}]},
    },
}
PROVISIONING_MODELS = ("STANDARD", "SPOT", "RESERVATION_BOUND", "FLEX_START")


def check(value, fields, where: str = "queued_resource") -> None:
    """Refuses what is not of the form `fields` with the service's error for it."""
    kinds = {STRING: str, BOOLEAN: bool, NUMBER: int, LONG: (int, str)}
    if isinstance(fields, dict):
        expected = dict
    elif isinstance(fields, list) or fields == STRINGS:
        expected = list
    elif fields == MAP:
        expected = dict
    else:
        expected = kinds[fields]
    if not isinstance(value, expected):
        raise ApiError("INVALID_ARGUMENT", f"Invalid value at '{where}', {value!r}")
    if isinstance(fields, dict):
        for name, inner in value.items():
            if name not in fields:
                message = f"Invalid JSON payload received. Unknown name {name!r} at '{where}': Cannot find field."
                raise ApiError("INVALID_ARGUMENT", message)
            check(inner, fields[name], f"{where}.{name}")
    elif isinstance(fields, list):
        for index, inner in enumerate(value):
            check(inner, fields[0], f"{where}[{index}]")
    elif fields in (STRINGS, MAP):
        for inner in value.values() if fields == MAP else value:
            check(inner, STRING, where)
