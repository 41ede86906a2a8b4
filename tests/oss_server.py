"""An Aliyun OSS on loopback: its wire protocol on real sockets, in threads, with every signature and digest verified.

It keeps everything in memory and injects the `Faults` that a test asks for. It implements the part of the protocol that
Dreamlog uses, and answers 501 to everything else. It must not import anything of Dreamlog or oss2.
"""

import base64
import hashlib
import random
import re
import secrets
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests import oss_signatures
from tests.oss_signatures import Refusal, Request
from tests.pace import seconds

BUCKET, REGION, KEY_ID, SECRET = "dreams", "cn-hangzhou", "LTAItests", "a-secret-of-the-tests"
SMALLEST_PART = 102_400
STALL = seconds(1)
ACL = "x-oss-object-acl"
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Refused(Exception):
    """An error answer of OSS: status and code."""

    def __init__(self, status: int, code: str, message: str = "", **details: str) -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.details = details


@dataclass
class Stored:
    content: bytes
    headers: dict[str, str]
    etag: str
    at: float


@dataclass
class Upload:
    """A multipart upload that is not complete."""

    name: str
    headers: dict[str, str]
    at: float
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass
class Faults:
    """Faults of the server. Where nothing else is said, a number is the share of requests that it affects, 0 to 1."""

    busy: float = 0.0  # the answer is 503
    reset: float = 0.0  # the connection is reset before the request takes effect
    lost: float = 0.0  # the request takes effect, but no answer is sent
    cut: float = 0.0  # the answer's body ends in the middle
    stall: float = 0.0  # the answer's body pauses in the middle, for STALL seconds
    delay: float = 0.0  # seconds before each request takes effect
    slow_puts: float = 0.0  # seconds before each PUT takes effect
    gone: bool = False  # every connection is reset
    open: bool = False  # everybody may read, as in a public bucket
    clock: float = 0.0  # seconds by which the clock of OSS is ahead


class OssServer:
    """A context manager that serves one bucket at `oss.endpoint`."""

    def __init__(self, *, seed: int = 1) -> None:
        self.faults = Faults()
        self.keys = {KEY_ID: SECRET}
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.requests: list[tuple[str, str]] = []  # method and name of each authorized request
        self.writes: dict[str, set[str]] = {}  # name -> the digests of all contents that were ever put there
        self.failed = 0  # requests that met a fault
        self.busiest = 0  # the most requests at the same time
        self.lock = threading.RLock()
        self._random = random.Random(seed)
        self._now = 0

    def __enter__(self) -> Self:
        # The default backlog of 5 would make a burst of connections look like an outage.
        handler = type("Handler", (_Handler,), {"oss": self})
        server = type("Server", (ThreadingHTTPServer,), {"request_queue_size": 256, "daemon_threads": True})
        self._server: ThreadingHTTPServer = server(("127.0.0.1", 0), handler)
        self._server.handle_error = lambda *_: None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def settings(self, **more: object) -> dict[str, object]:
        """The settings of a Dreamlog server that stores its files here."""
        found: dict[str, object] = {
            "backend": "oss",
            "endpoint": self.endpoint,
            "region": REGION,
            "bucket": BUCKET,
            "access_key_id": KEY_ID,
            "access_key_secret": SECRET,
        }
        return {f"storage__{name}": value for name, value in (found | more).items()}

    @property
    def now(self) -> float:
        return time.time() + self.faults.clock

    def names(self) -> set[str]:
        """The names of all objects and unfinished uploads in the bucket."""
        with self.lock:
            return set(self.objects) | {upload.name for upload in self.uploads.values()}

    # ---- faults

    def happens(self, share: float) -> bool:
        with self.lock:
            hit = self._random.random() < share
            self.failed += hit
            return hit

    def begins(self) -> None:
        with self.lock:
            self._now += 1
            self.busiest = max(self.busiest, self._now)

    def ends(self) -> None:
        with self.lock:
            self._now -= 1

    # ---- the bucket

    def act(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Carry out the request, and return status, headers and body of the answer."""
        if request.bucket != BUCKET:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist.")
        signed = oss_signatures.check(request, self.keys, REGION, self.now)
        if not signed and not self._is_public(request):
            raise Refused(403, "AccessDenied", "You have no right to access this object because of bucket acl.")
        digest = request.headers.get("content-md5")
        if digest is not None and digest != base64.b64encode(hashlib.md5(body).digest()).decode():
            raise Refused(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        with self.lock:
            self.requests.append((request.method, request.name))
            return self._answer(request, body)

    def _is_public(self, request: Request) -> bool:
        stored = self.objects.get(request.name)
        acl = stored.headers.get(ACL) if stored else None
        return request.method in ("GET", "HEAD") and (acl == "public-read" or self.faults.open) and not request.query

    def _answer(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        query = request.query
        match request.method:
            case "PUT" if "uploadId" in query:
                return self._put_part(self._upload(request), int(query["partNumber"]), body)
            case "PUT":
                return self._put(request, body)
            case "POST" if "uploads" in query:
                upload_id = secrets.token_hex(16).upper()
                # As in OSS, the ACL of this request has no effect.
                headers = {name: value for name, value in request.headers.items() if name != ACL}
                self.uploads[upload_id] = Upload(request.name, headers, self.now)
                return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
            case "POST" if "uploadId" in query:
                return self._complete(request, self._upload(request), body)
            case "POST" if "delete" in query:
                return self._delete_many(request, body)
            case "DELETE" if "uploadId" in query:
                self._upload(request)
                del self.uploads[query["uploadId"]]
                return 204, {}, b""
            case "DELETE":
                self.objects.pop(request.name, None)
                return 204, {}, b""
            case "GET" if query.get("list-type") == "2":
                return self._list(query)
            case "GET" if "uploads" in query:
                return self._list_uploads(query)
            case "GET" | "HEAD" if request.name:
                return self._get(request)
        raise Refused(501, "NotImplemented")

    def _put(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if len(request.name.encode()) > 1023:
            raise Refused(400, "InvalidObjectName")
        stored = self._store(request.name, body, hashlib.md5(body).hexdigest().upper(), dict(request.headers))
        return 200, {"ETag": f'"{stored.etag}"'}, b""

    def _store(self, name: str, content: bytes, etag: str, headers: dict[str, str]) -> Stored:
        self.objects[name] = stored = Stored(content, headers, etag, self.now)
        self.writes.setdefault(name, set()).add(etag)
        return stored

    def _upload(self, request: Request) -> Upload:
        upload = self.uploads.get(request.query["uploadId"])
        if upload is None or upload.name != request.name:
            raise Refused(404, "NoSuchUpload", "The specified multipart upload does not exist.")
        return upload

    def _put_part(self, upload: Upload, number: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
        etag = hashlib.md5(body).hexdigest().upper()
        upload.parts[number] = Stored(body, {}, etag, self.now)
        return 200, {"ETag": f'"{etag}"'}, b""

    def _complete(self, request: Request, upload: Upload, body: bytes) -> tuple[int, dict[str, str], bytes]:
        named = [(int(part.findtext("PartNumber", "0")), part.findtext("ETag", "").strip('"'))
                 for part in ElementTree.fromstring(body).iter("Part")]  # fmt: skip
        for number, etag in named:
            if number not in upload.parts or upload.parts[number].etag != etag:
                raise Refused(400, "InvalidPart")
        parts = [upload.parts[number].content for number, _ in sorted(named)]
        if any(len(part) < SMALLEST_PART for part in parts[:-1]):
            raise Refused(400, "EntityTooSmall")
        del self.uploads[request.query["uploadId"]]
        acl = {ACL: request.headers[ACL]} if ACL in request.headers else {}
        etag = hashlib.md5("".join(etag for _, etag in named).encode()).hexdigest().upper() + f"-{len(named)}"
        self._store(upload.name, b"".join(parts), etag, upload.headers | acl)
        return _xml("CompleteMultipartUploadResult", f"<Key>{escape(upload.name)}</Key><ETag>{etag}</ETag>")

    def _delete_many(self, request: Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if "content-md5" not in request.headers:
            raise Refused(400, "InvalidRequest", "Content-MD5 is required.")
        names = [unquote(each.text or "") for each in ElementTree.fromstring(body).iter("Key")]
        for name in names:
            self.objects.pop(name, None)
        return _xml("DeleteResult", "".join(f"<Deleted><Key>{quote(name)}</Key></Deleted>" for name in names))

    def _get(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        stored = self.objects.get(request.name)
        if stored is None:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        if request.headers.get("if-match", f'"{stored.etag}"').strip('"') != stored.etag:
            raise Refused(412, "PreconditionFailed")
        kept = {"content-type": "Content-Type", "cache-control": "Cache-Control"}
        headers = {shown: stored.headers[name] for name, shown in kept.items() if name in stored.headers}
        headers |= {"ETag": f'"{stored.etag}"', "Last-Modified": formatdate(stored.at, usegmt=True)}
        size, match = len(stored.content), RANGE.fullmatch(request.headers.get("range", ""))
        # For a range behind the end the answer is the whole object, as in OSS by default.
        if match is None or int(match[1]) >= size:
            return 200, headers, stored.content
        start, end = int(match[1]), min(int(match[2] or size - 1), size - 1)
        return 206, headers | {"Content-Range": f"bytes {start}-{end}/{size}"}, stored.content[start : end + 1]

    def _list(self, query: Any) -> tuple[int, dict[str, str], bytes]:
        prefix, after, most = query.get("prefix", ""), query.get("continuation-token", ""), int(query["max-keys"])
        names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)
        listed = "".join(
            f"<Contents><Key>{quote(name)}</Key><LastModified>{_iso(self.objects[name].at)}</LastModified>"
            f"<ETag>{self.objects[name].etag}</ETag><Type>Normal</Type><Size>{len(self.objects[name].content)}</Size>"
            "<StorageClass>Standard</StorageClass></Contents>"
            for name in names[:most]
        )
        more = len(names) > most
        token = f"<NextContinuationToken>{quote(names[most - 1])}</NextContinuationToken>" if more else ""
        tail = f"<IsTruncated>{str(more).lower()}</IsTruncated><EncodingType>url</EncodingType>{token}"
        return _xml("ListBucketResult", f"{tail}{listed}")

    def _list_uploads(self, query: Any) -> tuple[int, dict[str, str], bytes]:
        uploads = sorted((u.name, i, u.at) for i, u in self.uploads.items() if u.name.startswith(query["prefix"]))
        listed = "".join(
            f"<Upload><Key>{quote(name)}</Key><UploadId>{upload_id}</UploadId><Initiated>{_iso(at)}</Initiated></Upload>"
            for name, upload_id, at in uploads
        )
        head = "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><NextKeyMarker/><NextUploadIdMarker/>"
        return _xml("ListMultipartUploadsResult", head + listed)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    oss: OssServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        oss, faults = self.oss, self.oss.faults
        oss.begins()
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if faults.gone or oss.happens(faults.reset):
                return self._reset()
            time.sleep(faults.delay + (faults.slow_puts if self.command == "PUT" else 0))
            status, headers, content = self._answered(body)
            if faults.gone or oss.happens(faults.lost):
                return self._reset()
            self._send(status, headers, content, cut=bool(content) and oss.happens(faults.cut))
        finally:
            oss.ends()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _answered(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        try:
            if self.oss.happens(self.oss.faults.busy):
                raise Refused(503, "ServiceUnavailable", "Please reduce your request rate.")
            split = urlsplit(self.path)
            bucket, _, name = unquote(split.path).removeprefix("/").partition("/")
            query = dict(parse_qsl(split.query, keep_blank_values=True))
            headers = {each.lower(): value for each, value in self.headers.items()}
            return self.oss.act(Request(self.command, bucket, name, query, headers), body)
        except Refusal as refusal:
            status = 400 if refusal.code == "InvalidArgument" else 403
            return self._error(Refused(status, refusal.code, str(refusal)))
        except Refused as refused:
            return self._error(refused)

    def _error(self, error: Refused) -> tuple[int, dict[str, str], bytes]:
        details = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in error.details.items())
        content = f"<Code>{error.code}</Code><Message>{escape(str(error))}</Message><RequestId>1</RequestId>{details}"
        _, headers, body = _xml("Error", content)
        return error.status, headers | {"x-oss-err": base64.b64encode(body).decode()}, body

    def _send(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool) -> None:
        self.send_response_only(status)
        length = {"Content-Length": str(len(content))} if status != 204 else {}
        for name, value in (headers | length | {"x-oss-request-id": secrets.token_hex(12).upper()}).items():
            self.send_header(name, value)
        self.send_header("Date", formatdate(self.oss.now, usegmt=True))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        if cut:
            self.close_connection = True
            return
        if content and self.oss.happens(self.oss.faults.stall):
            time.sleep(STALL)
        self.wfile.write(content[half:])

    def _reset(self) -> None:
        """Close the connection so that the client sees a reset, not a normal end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()


def _xml(root: str, content: str) -> tuple[int, dict[str, str], bytes]:
    body = f'<?xml version="1.0" encoding="UTF-8"?><{root}>{content}</{root}>'.encode()
    return 200, {"Content-Type": "application/xml"}, body


def _iso(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment))
