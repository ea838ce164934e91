"""Refusals of Cloud TPU, in the words and with the details that Google sends."""

from __future__ import annotations

from cloud.server import ApiError
from cloud.slices import PROJECT_NUMBER


def quota_error(kind: str = "TPUV3sPodPerProjectPerZoneForTPUAPI") -> ApiError:
    """The refusal of a request beyond a quota."""
    message = f"Quota limit '{kind}' has been exceeded. Limit: 0 in zone europe-west4-a."
    violation = {"subject": f"project_number:{PROJECT_NUMBER}", "description": message}
    detail = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
    return ApiError("RESOURCE_EXHAUSTED", message, [detail])


def permission_error(permission: str = "tpu.nodes.create") -> ApiError:
    """The refusal for an account without a permission."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "IAM_PERMISSION_DENIED",
        "domain": "iam.googleapis.com",
        "metadata": {"permission": permission, "resource": "projects/project/locations/europe-west4-a"},
    }
    message = f"Permission '{permission}' denied on 'projects/project/locations/europe-west4-a'"
    return ApiError("PERMISSION_DENIED", message, [detail])


def disabled_error(service: str = "tpu.googleapis.com") -> ApiError:
    """The refusal for a project in which the API is not enabled."""
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": service, "consumer": f"projects/{PROJECT_NUMBER}"},
    }
    message = (
        f"Cloud TPU API has not been used in project {PROJECT_NUMBER} before or it is disabled. Enable it by visiting"
    )
    message += (
        f" https://console.developers.google.com/apis/api/{service}/overview?project={PROJECT_NUMBER} then retry."
    )
    return ApiError("PERMISSION_DENIED", message, [detail])
