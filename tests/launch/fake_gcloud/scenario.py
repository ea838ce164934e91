"""What a test wants the service to do: the states that resources go through, and the faults of single calls.

A scenario is a JSON file, read and updated under the service's lock.
"""

import re

DEFAULTS = {
    "account": "someone@example.com",
    "types": {"v3-32": 4, "v2-8": 1, "v3-8": 1, "v5litepod-16": 4},  # workers by accelerator type
    "buckets": {"bucket": "EUROPE-WEST4"},
    # States of the queued resource, one for each look; a list for each request, the last one for all that follow.
    "lifecycles": [["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]],
    "node_states": ["CREATING", "READY"],  # of the TPU VM, one for each look once the request is ACTIVE
    "after_preemption": ["SUSPENDING", "SUSPENDED"],  # of the queued resource, one for each look
    "faults": [],
}


def next_fault(scenario: dict, call: str) -> dict | None:
    """Returns the fault that this call meets, and counts it as met.

    A fault is {"call": regular expression, "skip": matching calls to let pass, "times": how often, "do": kind, …}.
    """
    for fault in scenario["faults"]:
        if not re.search(fault["call"], call):
            continue
        if fault.get("skip", 0) > 0:
            fault["skip"] -= 1
            continue
        if fault.get("times", 1) > 0:
            fault["times"] = fault.get("times", 1) - 1
            return fault
    return None
