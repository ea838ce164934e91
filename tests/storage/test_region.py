"""Buckets far from the machine, as Google's metadata server tells where that is."""

import http.server
import threading

import pytest

from pipeline.storage import region


@pytest.fixture
def machine_in(monkeypatch):
    """Starts a metadata server that says in which zone this machine is."""
    servers = []

    def machine_in(zone):
        class Metadata(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.path == "/computeMetadata/v1/instance/zone" and self.headers["Metadata-Flavor"] == "Google"
                self.send_response(200 if asked else 404)
                self.end_headers()
                self.wfile.write(f"projects/123/zones/{zone}".encode())

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")

    yield machine_in
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_bucket_in_another_region_is_named_with_what_to_do(server, machine_in, caplog):
    machine_in("europe-west4-b")
    region.warn_if_far("gs://bucket/run")
    assert "gs://bucket is in us-central1 and this machine in europe-west4" in caplog.text
    assert "gcloud storage buckets create gs://NAME --location=europe-west4" in caplog.text


def test_a_bucket_in_the_same_region_is_fine(server, machine_in, caplog):
    machine_in("us-central1-a")
    region.warn_if_far("gs://bucket/run")
    region.warn_if_far("/local")
    region.warn_if_far(None)
    assert caplog.text == ""


@pytest.mark.parametrize(("location", "warns"), [("us", False), ("eu", True), ("nam4", True), (None, False)])
def test_buckets_of_a_whole_area(location, warns, machine_in, caplog, monkeypatch):
    machine_in("us-west1-c")
    monkeypatch.setattr(region.objects, "region", lambda path: location)
    region.warn_if_far("gs://somewhere/run")
    assert bool(caplog.text) == warns


def test_elsewhere_nothing_is_asked(server, monkeypatch, caplog):
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    with server.counted() as counts:
        region.warn_if_far("gs://bucket/run")
    assert not counts
    assert caplog.text == ""
