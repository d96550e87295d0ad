"""Local servers that speak as the clouds' object stores do, and roots in them for tests that run on every store."""

from __future__ import annotations

import contextlib
import json
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from support.servers import free_port, running, servers_bin

__all__ = ["KEYS", "Cloud", "gcs_server", "s3_server"]

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Cloud:
    """A server, and the environment in which its buckets are opened."""

    scheme: str
    endpoint: str
    environment: Mapping[str, str]

    def bucket(self, name: str | None = None) -> str:
        """The address of a new bucket."""
        name = name or f"bucket-{uuid.uuid4().hex[:12]}"
        if self.scheme == "s3":
            _send("PUT", f"{self.endpoint}/{name}")
        else:
            _send("POST", f"{self.endpoint}/storage/v1/b?project=tests", json.dumps({"name": name}).encode())
        return f"{self.scheme}://{name}"

    def upload(self, address: str, data: bytes) -> None:
        """Put an object as the owner of a bucket may, whatever others may."""
        bucket, _, name = address.partition("://")[2].partition("/")
        upload = f"{self.endpoint}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
        _send("POST", upload, data, "text/plain")


def _send(method: str, url: str, data: bytes = b"", type_: str = "application/json") -> None:
    request = urllib.request.Request(url, data, {"Content-Type": type_}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


@contextlib.contextmanager
def s3_server() -> Iterator[Cloud]:
    """S3, by moto's threaded server."""
    port = free_port()
    with running([servers_bin("moto_server"), "-H", "127.0.0.1", "-p", str(port)], ports=[port]):
        endpoint = f"http://127.0.0.1:{port}"
        yield Cloud("s3", endpoint, {"AWS_ENDPOINT_URL": endpoint, **KEYS})


@contextlib.contextmanager
def gcs_server() -> Iterator[Cloud]:
    """Cloud Storage, see `gcs_server.py`."""
    port = free_port()
    program = Path(__file__).with_name("gcs_server.py")
    with running([servers_bin("python"), str(program), str(port)], ports=[port]):
        endpoint = f"http://127.0.0.1:{port}"
        yield Cloud("gs", endpoint, {"STORAGE_EMULATOR_HOST": endpoint})
