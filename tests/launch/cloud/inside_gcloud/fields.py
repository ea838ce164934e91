"""Prints, as JSON, the fields and states of the Cloud TPU API that gcloud's message classes have.

Run by gcloud's own Python: fields.py FOLDER-OF-GCLOUD VERSION. Needs nothing of ours. Prints [fields, output, states]:
fields name → [kind or inner fields, repeated]; the names that only the service writes; and the enumerations' words.
"""

import importlib
import json
import re
import sys

root, version = sys.argv[1:]
sys.path[:0] = [f"{root}/lib", f"{root}/lib/third_party"]
module = importlib.import_module(f"googlecloudsdk.generated_clients.apis.tpu.{version}.tpu_{version}_messages")


def inner_of(field):
    """The message class of a field; None for one without fields of its own, such as a map."""
    if type(field).__name__ != "MessageField":
        return None
    names = [each.name for each in field.message_type.all_fields()]
    return None if "additionalProperties" in names else field.message_type


def fields_of(kind):
    """The fields of a message class."""
    found = {}
    for field in kind.all_fields():
        inner = inner_of(field)
        word = "map" if type(field).__name__ == "MessageField" else type(field).__name__
        found[field.name] = [word if inner is None else fields_of(inner), field.repeated]
    return found


def written_by_the_service(kind):
    """The names of the fields, of this message class and those in it, that are documented as output."""
    text = re.sub(r"\s+", " ", kind.__doc__ or "")
    found = [field.name for field in kind.all_fields() if re.search(rf"\b{field.name}: Output only", text)]
    for inner in filter(None, map(inner_of, kind.all_fields())):
        found += written_by_the_service(inner)
    return found


states = {
    "request": sorted(module.QueuedResourceState.StateValueValuesEnum.names()),
    "node": sorted(module.Node.StateValueValuesEnum.names()),
    "initiator": sorted(module.QueuedResourceState.StateInitiatorValueValuesEnum.names()),
}
print(json.dumps([fields_of(module.QueuedResource), written_by_the_service(module.QueuedResource), states]))
