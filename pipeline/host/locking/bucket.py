"""The few requests that a lock makes to Google Cloud Storage, by its JSON API, with preconditions on generations.

Owns addresses, the token and what a refusal means. `STORAGE_EMULATOR_HOST` points to another server, as for Google's own
clients. https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from pipeline.errors import ConfigError, MachineError
from pipeline.host.locking.objects import Changed

_TIMEOUT_SECONDS = 30
_BORDER = b"=border="
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"


class Bucket:
    """The objects of one bucket.

    Args:
      name: of the bucket.
      endpoint: the server, such as https://storage.googleapis.com.
      token: returns what to authorize with; None: nothing is needed.
    """

    def __init__(self, name: str, endpoint: str, token: Callable[[], str] | None):
        self._name, self._endpoint, self._token = name, endpoint.rstrip("/"), token

    def read(self, name: str) -> tuple[bytes, int] | None:
        """Returns the content and the generation of an object; None when there is none."""
        answer = self._request("GET", f"/storage/v1/b/{self._name}/o/{_quoted(name)}?alt=media", missing=True)
        return None if answer is None else (answer[0], int(answer[1]["x-goog-generation"]))

    def write(self, name: str, content: bytes, generation: int) -> int:
        """Replaces that generation of an object, 0 for none, and returns the new one; raises `Changed`."""
        query = f"uploadType=multipart&ifGenerationMatch={generation}"
        description = json.dumps({"name": name}).encode()
        parts = (("application/json", description), ("application/octet-stream", content))
        body = b"".join(
            b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (_BORDER, kind.encode(), part) for kind, part in parts
        )
        kind = f'multipart/related; boundary="{_BORDER.decode()}"'
        answer, _ = self._request(
            "POST", f"/upload/storage/v1/b/{self._name}/o?{query}", body + b"--%s--" % _BORDER, kind
        )
        return int(json.loads(answer)["generation"])

    def _request(self, method: str, path: str, content: bytes | None = None, kind: str = "", *, missing: bool = False):
        """Returns body and headers of the answer; None for a missing object where that is no error."""
        headers = {"Content-Type": kind}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token()}"
        request = urllib.request.Request(self._endpoint + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing:
                return None
            if error.code == 412:
                raise Changed from error
            what = f"gs://{self._name}: {method} was refused with {error.code} {error.reason}"
            if error.code in (401, 403, 404):
                raise ConfigError(
                    f"{what}: is it the right bucket, and may this account read and write there?"
                ) from error
            raise MachineError(what) from error
        except OSError as error:  # also what urllib raises of its own
            raise MachineError(f"gs://{self._name} cannot be reached: {error}") from error


def open_store(path: str) -> tuple[Bucket, str]:
    """Returns the bucket of `gs://bucket/object` and the object's name."""
    bucket, _, name = path.removeprefix("gs://").partition("/")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator:
        return Bucket(bucket, emulator if "://" in emulator else f"http://{emulator}", None), name
    return Bucket(bucket, "https://storage.googleapis.com", _machine_token), name


def _machine_token() -> str:
    """Returns the token of the machine's service account."""
    request = urllib.request.Request(_METADATA, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            return json.loads(answer.read())["access_token"]
    except (OSError, ValueError, KeyError) as error:
        raise MachineError(
            f"no access token: the metadata service of Google Cloud does not answer ({error})"
        ) from error


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
