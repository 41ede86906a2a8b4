"""Files on Aliyun OSS, at URLs that OSS or a CDN serves.

oss2 is synchronous and never retries. This module runs its calls in threads, each with its own session, and retries
temporary errors after growing pauses. Sending a request again is safe, because the content of a key never changes.

It must not know dreams or HTTP handlers.
"""

import asyncio
import base64
import hashlib
import logging
import random
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import oss2
import requests
from oss2.exceptions import OssError
from oss2.models import PartInfo

from config import Storage
from storage import presign
from storage.errors import Error, NotFound
from storage.files import CHUNK, KEY, NO_FILE
from storage.oss_errors import is_retryable, to_storage_error
from storage.presign import Credentials

T = TypeVar("T")

PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds before each retry, times 0.5 to 1.5
BLOCK = 4 * 1024 * 1024  # bytes read by one request, and the most that a broken connection costs
PARTS_AT_ONCE = 2  # of one file, which must not take every connection or much memory
ACL = "x-oss-object-acl"
BATCH = 1000  # names in one request, the most that OSS accepts
ECS_ROLES = "http://100.100.100.200/latest/meta-data/ram/security-credentials/"
REFRESH = 60.0  # seconds between reads of a role's token, which is valid for hours

log = logging.getLogger("dreamlog.oss")


@dataclass
class Unfinished:
    """A multipart upload that is not complete."""

    source: tuple[int, int]  # size and modification time (ns), because parts of another file must not be mixed in
    upload_id: str
    etags: dict[int, str] = field(default_factory=dict)  # number of a part that OSS has -> its tag


class OssFiles:
    """`storage.files.Files` below a prefix of one bucket; a context manager.

    Entering reads the credentials, and raises `Refused` if there are none. It does not contact OSS; `check` does.
    """

    def __init__(self, settings: Storage, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._provider = _provider(settings)
        kind = oss2.ProviderAuthV4 if settings.signature == "v4" else oss2.ProviderAuth
        self._auth = kind(self._provider)
        self._credentials = Credentials("", "")
        self._base = settings.public_url or _bucket_url(settings)
        self._threads = ThreadPoolExecutor(settings.connections, "oss")
        self._mine = threading.local()
        self._sessions: list[Any] = []
        self._unfinished: dict[str, Unfinished] = {}
        self._probe: asyncio.Task[None] | None = None
        # oss2 would log the signed text of each refused request, and the answers of the role's server.
        logging.getLogger("oss2").setLevel(logging.CRITICAL)

    async def __aenter__(self) -> Self:
        try:
            await self._take_credentials()
        except BaseException:
            self._threads.shutdown(wait=False)
            raise
        self._refresher = asyncio.create_task(self._refresh(), name="OSS credentials")
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._refresher, self._probe) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for session in self._sessions:
            session.session.close()

    @property
    def origins(self) -> tuple[str, ...]:
        split = urlsplit(self._base)
        return (f"{split.scheme}://{split.netloc}",)

    async def put(self, key: str, path: Path, content_type: str) -> None:
        name = self._name(key)
        private = self._settings.addresses == "signed" or key.rpartition("/")[2].startswith("original")
        headers = {
            "Content-Type": content_type,
            "Cache-Control": f"{'private' if private else 'public'}, max-age=31536000, immutable",
            ACL: "private" if private else "public-read",
            "x-oss-storage-class": self._settings.storage_class,
        }
        if self._settings.encryption:
            headers["x-oss-server-side-encryption"] = self._settings.encryption
        try:
            found = path.stat()
        except OSError as error:
            raise to_storage_error(error, self._clock()) from error
        if found.st_size > self._settings.part_size:
            await self._put_parts(name, path, (found.st_size, found.st_mtime_ns), headers)
        else:
            await self._try(lambda bucket: _put_whole(bucket, name, path.read_bytes(), headers))

    def url(self, key: str) -> str:
        name, s = self._name(key), self._settings
        url = f"{self._base}/{quote(name)}"
        if s.addresses == "public":
            return url
        begin, end = presign.window(self._clock(), s.address_life)
        if s.signature == "v1":
            return f"{url}?{presign.v1(self._credentials, bucket=s.bucket, name=name, end=end)}"
        query = presign.v4(self._credentials, region=s.region, bucket=s.bucket, name=name, begin=begin, end=end)
        return f"{url}?{query}"

    async def delete(self, keys: Iterable[str]) -> None:
        names = sorted({self._name(key) for key in keys if KEY.fullmatch(key) is not None})
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            await self._try(lambda bucket, batch=batch: bucket.batch_delete_objects(batch))  # type: ignore[misc]
        for place in {name.rpartition("/")[0] for name in names}:
            async for name, upload_id, _ in self._uploads(f"{place}/"):
                if name in names:
                    await self._abort(name, upload_id)

    async def open(self, key: str) -> AsyncIterator[bytes]:
        name, start, size, etag = self._name(key), 0, 1, ""
        while start < size:
            headers = {"If-Match": etag} if etag else {}

            def read(bucket: Any, start: int = start, headers: dict[str, str] = headers) -> tuple[bytes, int, str]:
                answer = bucket.get_object(name, byte_range=(start, start + BLOCK - 1), headers=headers)
                block = answer.read()
                whole = (answer.content_range or "").rpartition("/")[2]
                return block, int(whole or len(block)), answer.headers["ETag"]

            block, size, etag = await self._try(read)
            for piece in range(0, len(block), CHUNK):
                yield block[piece : piece + CHUNK]
            start += len(block)

    async def check(self) -> None:
        """Write, read and remove a few bytes. Concurrent calls share one probe."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._check(), name="OSS check")
            self._probe.add_done_callback(lambda probe: probe.cancelled() or probe.exception())
        await asyncio.shield(self._probe)

    async def scan(self) -> AsyncIterator[tuple[str, float]]:
        prefix, token, more = self._settings.prefix, "", True
        while more:
            page = await self._try(
                lambda bucket, token=token: bucket.list_objects_v2(  # type: ignore[misc]
                    prefix, continuation_token=token, max_keys=BATCH
                )
            )
            for each in page.object_list:
                yield each.key.removeprefix(prefix), each.last_modified
            more, token = page.is_truncated, page.next_continuation_token
        async for name, _, begun in self._uploads(prefix):
            yield name.removeprefix(prefix), begun

    # ---- large files

    async def _put_parts(self, name: str, path: Path, source: tuple[int, int], headers: dict[str, str]) -> None:
        """Upload the file in parts. After an outage, parts that OSS already has are not sent again."""
        unfinished = self._unfinished.get(name)
        if unfinished is None or unfinished.source != source:
            # OSS takes the ACL with the last request, all other headers with the first.
            first = {each: value for each, value in headers.items() if each != ACL}
            answer = await self._try(lambda bucket: bucket.init_multipart_upload(name, headers=first))
            unfinished = self._unfinished[name] = Unfinished(source, answer.upload_id)
        upload_id, etags, size = unfinished.upload_id, unfinished.etags, self._settings.part_size
        numbers = range(1, -(-source[0] // size) + 1)
        slots = asyncio.Semaphore(PARTS_AT_ONCE)

        async def send(number: int) -> None:
            async with slots:
                etags[number] = await self._try(
                    lambda bucket: _put_part(bucket, name, upload_id, number, _part(path, (number - 1) * size, size))
                )

        try:
            # Wait for every part, also after an error: a part that is sent later would be an orphan.
            results = await asyncio.gather(*(send(n) for n in numbers if n not in etags), return_exceptions=True)
            for error in results:
                if error is not None:
                    raise error
            # Other uploads of this name are orphans: their first answer was lost, or they had another file.
            async for other, its_id, _ in self._uploads(name):
                if other == name and its_id != upload_id:
                    await self._abort(name, its_id)
            parts = [PartInfo(number, etags[number]) for number in numbers]
            acl = {ACL: headers[ACL]}
            await self._try(lambda bucket: bucket.complete_multipart_upload(name, upload_id, parts, headers=acl))
        except NotFound:
            # The upload is gone: a request whose answer was lost completed it, or a rule of the bucket removed it.
            del self._unfinished[name]
            if await self._try(lambda bucket: _size(bucket, name)) != source[0]:
                await self._put_parts(name, path, source, headers)
            return
        del self._unfinished[name]

    async def _uploads(self, prefix: str) -> AsyncIterator[tuple[str, str, float]]:
        """Name, id and start (Unix s) of each unfinished upload."""
        marker, more = ("", ""), True
        while more:
            page = await self._try(
                lambda bucket, marker=marker: bucket.list_multipart_uploads(  # type: ignore[misc]
                    prefix, key_marker=marker[0], upload_id_marker=marker[1]
                )
            )
            for each in page.upload_list:
                yield each.key, each.upload_id, each.initiation_date
            more, marker = page.is_truncated, (page.next_key_marker, page.next_upload_id_marker)

    async def _abort(self, name: str, upload_id: str) -> None:
        unfinished = self._unfinished.get(name)
        if unfinished is not None and unfinished.upload_id == upload_id:
            del self._unfinished[name]
        with suppress(NotFound):
            await self._try(lambda bucket: bucket.abort_multipart_upload(name, upload_id))

    # ---- inside

    def _name(self, key: str) -> str:
        if KEY.fullmatch(key) is None:
            raise NotFound(NO_FILE)
        return self._settings.prefix + key

    async def _try(self, step: Callable[[Any], T]) -> T:
        """Run `step(bucket)` in a thread, and retry it after temporary errors. Raises errors of `storage.errors`."""
        for pause in (*PAUSES, None):
            try:
                return await self._in_thread(lambda: step(self._bucket()))
            except (OssError, requests.RequestException, OSError) as error:
                if pause is None or not is_retryable(error):
                    raise to_storage_error(error, self._clock()) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        raise AssertionError("the last try returns or raises")

    async def _in_thread(self, step: Callable[[], T]) -> T:
        working = self._threads.submit(step)
        done = asyncio.wrap_future(working)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and a file that it stored after its key was unreferenced would be an orphan.
            if not working.cancel():
                await asyncio.wait([done])
            raise

    def _bucket(self) -> Any:
        """The bucket of the calling thread, because sessions of `requests` are not thread-safe."""
        if not hasattr(self._mine, "bucket"):
            s, session = self._settings, oss2.Session(pool_size=1)
            self._sessions.append(session)
            self._mine.bucket = oss2.Bucket(
                self._auth,
                s.endpoint,
                s.bucket,
                is_cname=s.cname,
                session=session,
                connect_timeout=(s.connect_timeout, s.read_timeout),
                enable_crc=False,  # OSS verifies Content-MD5, which unlike this CRC is not computed in Python
                region=s.region,
            )
        return self._mine.bucket

    async def _check(self) -> None:
        name = f"{self._settings.prefix}check/{secrets.token_hex(16)}.txt"
        await self._try(lambda bucket: _put_whole(bucket, name, b"dream", {"Content-Type": "text/plain"}))
        try:
            await self._try(lambda bucket: bucket.get_object(name).read())
        finally:
            await self._try(lambda bucket: bucket.delete_object(name))

    async def _take_credentials(self) -> None:
        try:
            taken = await self._in_thread(self._provider.get_credentials)
        except OssError as error:
            raise to_storage_error(error, self._clock()) from error
        self._credentials = Credentials(
            taken.get_access_key_id(), taken.get_access_key_secret(), taken.get_security_token() or ""
        )

    async def _refresh(self) -> None:
        """Renew the credentials in the background: URLs are signed on the event loop, which must not wait."""
        while self._settings.credentials != "settings":
            await asyncio.sleep(REFRESH)
            try:
                await self._take_credentials()
            except Error as error:
                log.warning("the credentials for OSS are not renewed: %s", error)


def _put_whole(bucket: Any, name: str, content: bytes, headers: dict[str, str]) -> None:
    bucket.put_object(name, content, headers={**headers, "Content-MD5": _md5(content)})


def _put_part(bucket: Any, name: str, upload_id: str, number: int, content: bytes) -> str:
    answer = bucket.upload_part(name, upload_id, number, content, headers={"Content-MD5": _md5(content)})
    return str(answer.etag)


def _part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _size(bucket: Any, name: str) -> int | None:
    try:
        return int(bucket.get_object_meta(name).content_length)
    except oss2.exceptions.NotFound:
        return None


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _provider(settings: Storage) -> Any:
    if settings.credentials == "ecs_role":
        return oss2.credentials.EcsRamRoleCredentialsProvider(ECS_ROLES + quote(settings.ecs_role))
    if settings.credentials == "environment":
        return oss2.credentials.EnvironmentVariableCredentialsProvider()
    key_id, secret = settings.access_key_id.value, settings.access_key_secret.value
    return oss2.credentials.StaticCredentialsProvider(key_id, secret)


def _bucket_url(settings: Storage) -> str:
    """The URL of the bucket, as oss2 builds it too. If the endpoint is an IP address, the bucket is in the path."""
    split = urlsplit(settings.endpoint)
    if settings.cname:
        return settings.endpoint
    if oss2.utils.is_ip_or_localhost(split.netloc):
        return f"{settings.endpoint}/{settings.bucket}"
    return f"{split.scheme}://{settings.bucket}.{split.netloc}"
