"""Reads answers with gcloud's message classes, strictly: prints each field and each word that a class has not.

Run by gcloud's own Python: strict.py FOLDER-OF-GCLOUD <answers. Needs nothing of ours. An answer is a line of JSON:
[api, version, message class, body]. gcloud itself passes on what it does not know.
"""

import importlib
import json
import sys

root = sys.argv[1]
sys.path[:0] = [f"{root}/lib", f"{root}/lib/third_party"]
from apitools.base.protorpclite import messages  # noqa: E402
from apitools.base.py import encoding  # noqa: E402


def unknown(message, where):
    """What a decoded message holds beside its fields, and in all messages in it."""
    found = [f"{where}.{name}" for name in message.all_unrecognized_fields()]
    for field in message.all_fields():
        value = message.get_assigned_value(field.name)
        for one in value if field.repeated and value else [value]:
            if isinstance(one, messages.Message) and field.name not in ("additionalProperties", "details"):
                found += unknown(one, f"{where}.{field.name}")
    return found


for line in sys.stdin:
    api, version, name, body = json.loads(line)
    module = importlib.import_module(f"googlecloudsdk.generated_clients.apis.{api}.{version}.{api}_{version}_messages")
    kind = getattr(module, name)
    for problem in unknown(encoding.JsonToMessage(kind, json.dumps(body)), name):
        print(problem)
