"""What the way from a new account to a first run asks for: projects, billing, APIs, service accounts, policies, secrets.

Owns the projects' policies and what was switched on. Operations are done at once. Serves Resource Manager, Cloud Billing,
Service Usage, IAM and Secret Manager, as far as the documented commands and the launcher's checks go.
"""

from __future__ import annotations

import base64
import itertools
import re

from cloud.server import Answer, ApiError, Call
from cloud.slices import DEFAULT_ACCOUNT, PROJECT_NUMBER, now


class Admin:
    """One organisation's administration.

    Attributes:
      bindings: the policy of every project, roles and their members.
      enabled: the APIs that were switched on; billed: the projects with a billing account.
      accounts: the service accounts, by e-mail address.
      secrets: secret → payload.
      policies: other resources' policies, by their paths.
    """

    def __init__(self):
        self.bindings: list[dict] = [{"role": "roles/tpu.admin", "members": [f"serviceAccount:{DEFAULT_ACCOUNT}"]}]
        self.enabled: set[str] = set()
        self.billed: set[str] = set()
        self.projects: set[str] = {"project"}
        self.accounts: dict[str, dict] = {}
        self.secrets: dict[str, bytes] = {}
        self.policies: dict[str, dict] = {}
        self._numbers = itertools.count(1)

    def answer(self, call: Call) -> Answer | None:
        """Answers what is known."""
        for pattern, handler in (
            (r"POST /v1/projects", self._create_project),
            (r"GET /v1/projects/([^/:]+)", self._project),
            (r"(?:POST|GET) /v\d/(projects/.+):(getIamPolicy|setIamPolicy)", self._policy),
            (r"PUT /v1/projects/([^/]+)/billingInfo", self._bill),
            (r"GET /v1/projects/([^/]+)/billingInfo", self._billing),
            (r"POST /v1/projects/([^/]+)/services:batchEnable", self._enable),
            (r"POST /v1/projects/([^/]+)/services/([^/]+):enable", self._enable),
            (r"POST /v1/projects/([^/]+)/serviceAccounts", self._create_account),
            (r"POST /v1/projects/([^/]+)/secrets", self._create_secret),
            (r"POST /v1/projects/([^/]+)/secrets/([^/]+):addVersion", self._add_version),
            (r"GET /v1/projects/([^/]+)/secrets/([^/]+)/versions/([^/]+):access", self._access),
            (r"GET /v1/(operations/.+)", self._operation),
        ):
            if match := re.fullmatch(pattern, f"{call.method} {call.path}"):
                answer = handler(call, *match.groups())
                return answer if isinstance(answer, Answer) else Answer(200, answer)
        return None

    def _done(self, response: dict | None = None) -> dict:
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        return {"name": f"operations/op.{next(self._numbers)}", "done": True, "response": response or empty}

    def _operation(self, call: Call, name: str) -> dict:
        return {"name": name, "done": True, "response": {"@type": "type.googleapis.com/google.protobuf.Empty"}}

    def _create_project(self, call: Call) -> dict:
        self.projects.add(call.body["projectId"])
        return self._done()

    def _project(self, call: Call, name: str) -> dict:
        if name not in self.projects:
            raise ApiError("PERMISSION_DENIED", "The caller does not have permission")  # as for one of somebody else
        return {
            "projectNumber": PROJECT_NUMBER,
            "projectId": name,
            "lifecycleState": "ACTIVE",
            "name": name,
            "createTime": now(),
        }

    def _policy(self, call: Call, resource: str, verb: str) -> dict:
        whole = resource.count("/") == 1  # a project
        if verb == "setIamPolicy":
            policy = call.body["policy"]
            if whole:
                self.bindings = policy["bindings"]
            self.policies[resource] = policy
            return policy
        if whole:
            return {"version": 1, "etag": "BwWWja0YfJA=", "bindings": self.bindings}
        return self.policies.get(resource, {"version": 1, "etag": "ACAB"})

    def _bill(self, call: Call, project: str) -> dict:
        self.billed.add(project)
        return self._billing(call, project) | call.body

    def _billing(self, call: Call, project: str) -> dict:
        name = f"projects/{project}"
        return {"name": f"{name}/billingInfo", "projectId": project, "billingEnabled": project in self.billed}

    def _enable(self, call: Call, project: str, service: str = "") -> dict:
        self.enabled.update([service] if service else call.body["serviceIds"])
        return self._done()

    def _create_account(self, call: Call, project: str) -> dict:
        email = f"{call.body['accountId']}@{project}.iam.gserviceaccount.com"
        self.accounts[email] = {
            "name": f"projects/{project}/serviceAccounts/{email}",
            "projectId": project,
            "uniqueId": str(10**20 + next(self._numbers)),
            "email": email,
            "etag": "MDEwMjE5MjA=",
            "oauth2ClientId": "1",
        }
        return self.accounts[email]

    def _create_secret(self, call: Call, project: str) -> dict:
        secret = call.query["secretId"]
        self.secrets[secret] = b""
        return {"name": f"projects/{PROJECT_NUMBER}/secrets/{secret}", "createTime": now(), "etag": '"1"'} | (
            call.body or {}
        )

    def _add_version(self, call: Call, project: str, secret: str) -> dict:
        self.secrets[secret] = base64.b64decode(call.body["payload"]["data"])
        name = f"projects/{PROJECT_NUMBER}/secrets/{secret}/versions/1"
        return {"name": name, "createTime": now(), "state": "ENABLED", "etag": '"1"'}

    def _access(self, call: Call, project: str, secret: str, version: str) -> dict:
        if secret not in self.secrets:
            raise ApiError("NOT_FOUND", f"Secret [projects/{project}/secrets/{secret}] not found or has no versions.")
        payload = {"data": base64.b64encode(self.secrets[secret]).decode()}
        return {"name": f"projects/{PROJECT_NUMBER}/secrets/{secret}/versions/1", "payload": payload}
