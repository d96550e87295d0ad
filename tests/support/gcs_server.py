"""A local Cloud Storage: gcp-storage-emulator with the XML API, by which obstore speaks to buckets, on top.

The emulator knows most of the JSON API, answers one request after the other, and pays no heed to preconditions. Here
are the parts of the XML API that a store takes (objects with generation preconditions, listings, copies, multipart
uploads) over the emulator's own storage; whatever else is asked for goes to the emulator.

It runs in the servers' environment, as a process of its own: ``python gcs_server.py PORT``. Buckets are made by the
JSON API. Those whose names end in ``-read-only`` refuse what the XML API would change, as they do whose caller has the
role storage.objectViewer.
"""

from __future__ import annotations

import sys
import threading
import uuid
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial, partialmethod
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.objects import _checksums, _make_object_resource
from gcp_storage_emulator.server import RequestHandler, Router
from gcp_storage_emulator.storage import Storage

JSON_API = ("/storage/", "/upload/", "/download/", "/batch", "/b/", "/wipe")
READ_ONLY = "-read-only"
PAGE = 1000
"""Objects in one answer to a listing."""

# One request at a time looks at the storage and changes it: generations are compared where they are set.
_lock = threading.RLock()
_uploads: dict[str, dict[int, bytes]] = {}


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Memory(Storage):
    """The emulator's storage, which after each change writes down all objects even where nobody reads it."""

    def __init__(self) -> None:
        super().__init__(use_memory_fs=True)

    def _write_config_to_file(self) -> None:
        pass


class Handler(RequestHandler):
    """The XML API, and for the rest the emulator."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # status, headers and body in one piece

    def _serve(self, method: str) -> None:
        url = urlsplit(self.path)
        if url.path == "/" or url.path.startswith(JSON_API):
            with _lock:
                Router(self).handle(method)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket, _, name = unquote(url.path).removeprefix("/").partition("/")
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            with _lock:
                self._check(method, bucket)
                self._answer(method, bucket, name, query, body)
        except NotFound:
            self._error(method, Refused(404, "NoSuchKey", "The specified key does not exist."))
        except Refused as error:
            self._error(method, error)

    def _check(self, method: str, bucket: str) -> None:
        if bucket not in self.storage.buckets:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
        if method not in ("GET", "HEAD") and bucket.endswith(READ_ONLY):
            raise Refused(403, "AccessDenied", "Access denied: the caller does not have storage.objects.create access.")

    def _answer(self, method: str, bucket: str, name: str, query: dict[str, str], body: bytes) -> None:
        upload = query.get("uploadId")
        match method:
            case "GET" if not name:
                self._send(200, self._listing(bucket, query))
            case "GET" | "HEAD":
                self._download(method, bucket, name)
            case "PUT" if upload:
                _uploads[upload][int(query["partNumber"])] = body
                self._send(200, headers={"ETag": f'"{query["partNumber"]}"'})
            case "PUT":
                source = self.headers.get("x-goog-copy-source")
                self._create(bucket, name, self._source(source) if source else body)
                self._send(200, b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>" if source else b"")
            case "POST" if "uploads" in query:
                upload = uuid.uuid4().hex
                _uploads[upload] = {}
                self._send(200, _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"))
            case "POST" if upload:
                parts = _uploads.pop(upload)
                wanted = [int(e.text or 0) for e in ET.fromstring(body).iter() if e.tag.endswith("PartNumber")]
                self._create(bucket, name, b"".join(parts[number] for number in wanted))
                self._send(200, _xml("CompleteMultipartUploadResult", "<ETag>x</ETag>"))
            case "DELETE" if upload:
                _uploads.pop(upload, None)
                self._send(204)
            case "DELETE":
                self.storage.delete_file(bucket, name)
                self._send(204)

    def _create(self, bucket: str, name: str, data: bytes) -> None:
        wanted = self.headers.get("x-goog-if-generation-match")
        try:
            generation = int(self.storage.get_file_obj(bucket, name)["generation"])
        except NotFound:
            generation = 0
        if wanted is not None and int(wanted) != generation:
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
        type_ = self.headers.get("Content-Type", "application/octet-stream")
        resource = _make_object_resource("", bucket, name, type_, str(len(data)))
        self.storage.create_file(bucket, name, data, _checksums(data, resource))

    def _source(self, header: str) -> bytes:
        bucket, _, name = unquote(header).removeprefix("/").partition("/")
        content: bytes = self.storage.get_file(bucket, name)
        return content

    def _download(self, method: str, bucket: str, name: str) -> None:
        about = self.storage.get_file_obj(bucket, name)
        data = self.storage.get_file(bucket, name)
        headers = {
            "ETag": f'"{about["generation"]}"',
            "x-goog-generation": about["generation"],
            "Last-Modified": format_datetime(_time(about["updated"]), usegmt=True),
        }
        asked = self.headers.get("Range")
        if asked is None or method == "HEAD":
            self._send(200, data, headers, with_body=method == "GET")
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        if begin >= len(data):
            raise Refused(416, "InvalidRange", "The requested range cannot be satisfied.")
        self._send(206, data[begin:end], {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"})

    def _listing(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        objects, folders = self.storage.get_file_list(bucket, prefix or None, delimiter)
        begin = int(query.get("continuation-token", 0))
        page = objects[begin : begin + PAGE]
        contents = "".join(
            f"<Contents><Key>{escape(o['name'])}</Key><Size>{o['size']}</Size><ETag>\"{o['generation']}\"</ETag>"
            f"<LastModified>{_time(o['updated']).isoformat().replace('+00:00', 'Z')}</LastModified></Contents>"
            for o in page
        )
        shared = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders)
        more = begin + PAGE < len(objects)
        following = f"<NextContinuationToken>{begin + PAGE}</NextContinuationToken>" if more else ""
        return _xml("ListBucketResult", f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{contents}{shared}")

    def _send(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for key, value in {"ETag": '"x"', "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _error(self, method: str, error: Refused) -> None:
        body = _xml("Error", f"<Code>{error.code}</Code><Message>{escape(str(error))}</Message>")
        self._send(error.status, body, with_body=method != "HEAD")


for _method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
    setattr(Handler, f"do_{_method}", partialmethod(Handler._serve, _method))


def _xml(tag: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><{tag}>{content}</{tag}>'.encode()


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), partial(Handler, Memory()))
    server.daemon_threads = True
    server.serve_forever()
