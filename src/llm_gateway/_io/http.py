"""The one file that talks HTTP: httpx over aiohttp's connection pool, one request at a time, every failure typed.

A reply is returned whatever its status; an error says that there is no reply that could be used. An error shows
neither key nor prompt, and what it came from is not chained to it: the libraries' own errors hold the headers.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NoReturn, cast

import httpx

from llm_gateway._facts import Fault, Masked, Sent
from llm_gateway._io._exchange import CURRENT, Content, Exchange, Upload
from llm_gateway._io._faults import BEFORE_SENDING, FAILURES, fault_of, origin_of
from llm_gateway._io._pool import pool, tls_context
from llm_gateway._null import SystemClock
from llm_gateway.errors import (
    ClientClosed,
    ConfigurationError,
    ErrorInfo,
    InvalidRequest,
    LLMGatewayError,
)
from llm_gateway.options import HttpOptions
from llm_gateway.protocols import Clock

__all__ = ["HttpClient", "HttpReply", "key_id", "validate_key"]

KEY: Final = re.compile(r"[\x21-\x7e]+")
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
PATH: Final = re.compile(r"/[0-9A-Za-z._~!$&'()*+,;=:@%/-]*(\?[0-9A-Za-z._~!$&'()*+,;=:@%/-]+)?")
DEFAULTS: Final = HttpOptions()
SYSTEM_CLOCK: Final = SystemClock()
LAST_PORT: Final = 65_535
REMEMBERED_URLS: Final = 256

PAST_CACHES: Final = {"cache-control": "no-store, no-cache"}
PAST_STORED: Final = {"cache-control": "no-cache, no-store, max-age=0", "pragma": "no-cache"}
ALWAYS: Final = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": "llm-gateway"}
FORBIDDEN_IN_BASE: Final = frozenset("?#@\\")
# They frame the message or belong to the connection; a second voice there would be request smuggling.
RESERVED: Final = frozenset({"accept-encoding", "connection", "content-length", "cookie", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """A complete reply of any status.

    Attributes:
        status: HTTP status; a redirect is a reply like any other.
        headers: By lower-case name; repeated ones joined with a comma.
        body: Decoded bytes.
        sent_at: UTC time at which the request began to leave this process.
        first_byte_at: UTC time at which the head of the reply was there.
        received_at: UTC time at which the reply was complete.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    sent_at: datetime
    first_byte_at: datetime
    received_at: datetime


def validate_key(secret: str, *, what: str) -> str:
    """Return *secret* if it can stand in a header.

    Args:
        secret: The key; nothing is stripped from it.
        what: How the message calls it.

    Raises:
        ConfigurationError: It is empty or has characters other than visible ASCII. The message does not show it.
    """
    if KEY.fullmatch(secret) is None:
        message = f"{what} is empty or has a space, a line break or another character that no key has."
        raise ConfigurationError(message)
    return secret


def key_id(secret: str) -> str:
    """Return a short stable digest that tells keys apart without showing one."""
    return hashlib.sha256(b"llm-gateway key id\0" + secret.encode()).hexdigest()[:12]


class HttpClient:
    """Sends requests to one origin. Belongs to the process and event loop of its first request.

    Args:
        base_url: ``https://host[:port][/path]``; ``http`` for loopback hosts only.
        options: Timeouts and bounds.
        transport: Carries the requests instead of aiohttp's pool.
        verify: TLS context; by default the certifi authorities and TLS 1.2 or newer, whatever the environment says.
        clock: Gives the times of replies.

    Raises:
        ConfigurationError: The base URL cannot be used. The message does not show it.
    """

    def __init__(
        self,
        base_url: str,
        *,
        options: HttpOptions = DEFAULTS,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        origin = _checked_url(base_url)
        self.endpoint = origin.netloc.decode("ascii")
        self._base = base_url.rstrip("/")
        self._options = options
        self._clock = clock
        self._phases = {
            "connect": options.connect_timeout,
            "read": None,
            "write": None,
            "pool": options.connect_timeout,
        }
        if transport is None:
            transport = pool(options, verify or tls_context(needed=origin.scheme == "https"))
        # The transport itself: a client around it would add redirects, cookies, proxies and logs to switch off again.
        self._transport = transport
        self._urls: dict[str, httpx.URL] = {}
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<HttpClient {self.endpoint}{' closed' if self._closed else ''}>"

    def __reduce__(self) -> NoReturn:
        message = "An HttpClient holds connections and cannot be pickled or copied."
        raise TypeError(message)

    async def post(
        self, path: str, *, body: bytes, headers: Mapping[str, str], timeout: float, fresh_token: str | None = None
    ) -> HttpReply:
        """Send one request, once, and return the reply.

        Args:
            path: What follows the base URL; starts with a slash.
            body: The content.
            headers: Sent beside those that say which encodings are taken and that nothing may be stored.
            timeout: Seconds for everything from connecting to the last byte; the attempt timeout bounds it.
            fresh_token: Makes the URL one that no cache has seen, and asks caches on the way to step aside.

        Raises:
            InvalidRequest: Path or headers cannot be sent.
            ProviderUnavailable: No connection, no reply in time, or the connection was lost before a reply.
            MalformedResponse: The reply is cut, or not HTTP.
            ResponseTooLarge: The decoded reply exceeds ``max_response_bytes``.
            ProviderError: The transport failed in a way that nobody foresaw.
            ConfigurationError: Called in another process or event loop than the first request.
            ClientClosed: The client is closed.
        """
        exchange = Exchange(self._clock)
        request = self._request(path, Upload(body, exchange), headers, fresh_token)
        # The frames of an error must not show them, not even to a traceback with local variables.
        del body, headers
        self._enter()
        try:
            async with asyncio.timeout(min(timeout, self._options.attempt_timeout)):
                return await self._receive(request, exchange)
        except Exception as error:
            failure = self._failure(error, exchange)
        raise failure

    async def aclose(self) -> None:
        """Close all connections. Idempotent. Connections of another process or event loop are left to it."""
        self._closed = True
        if self._home in (None, _here()):
            await self._transport.aclose()

    def _enter(self) -> None:
        if self._closed:
            message = "The HTTP client is closed."
            raise ClientClosed(message, info=ErrorInfo(endpoint=self.endpoint))
        here = _here()
        if self._home is None:
            self._home = here
        if self._home == here:
            return
        elsewhere = "process: it was forked after its first request" if self._home[0] != here[0] else "event loop"
        message = f"The HTTP client belongs to another {elsewhere}."
        step = "Make one client in each process and event loop."
        raise ConfigurationError(message, next_step=step, info=ErrorInfo(endpoint=self.endpoint))

    def _request(self, path: str, upload: Upload, headers: Mapping[str, str], fresh_token: str | None) -> httpx.Request:
        given = {name.lower(): value for name, value in headers.items()}
        complaint = _complaint(path, given, fresh_token)
        if complaint is not None:
            raise InvalidRequest(complaint, info=ErrorInfo(fault=Fault.BAD_REQUEST, endpoint=self.endpoint))
        url, past = self._url(path), PAST_CACHES
        if fresh_token is not None:
            url, past = url.copy_add_param("llm-gateway-fresh", fresh_token), PAST_STORED
        sent = {**ALWAYS, **given, **past, "content-length": str(upload.size)}
        return httpx.Request("POST", url, headers=sent, stream=upload, extensions={"timeout": self._phases})

    def _url(self, path: str) -> httpx.URL:
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= REMEMBERED_URLS:
                self._urls.clear()
            url = self._urls[path] = httpx.URL(self._base + path)
        return url

    async def _receive(self, request: httpx.Request, exchange: Exchange) -> HttpReply:
        CURRENT.set(exchange)
        response = await self._transport.handle_async_request(request)
        stream = cast("httpx.AsyncByteStream", response.stream)
        try:
            exchange.first_byte_at = first_byte_at = self._clock.now()
            headers = _joined(response.headers.raw)
            content = Content(headers.get("content-encoding", ""), self._options.max_response_bytes)
            # The stream itself: the response's own decoders do not stop at a size and overlook a cut end.
            async for chunk in stream:
                content.feed(chunk)
            return HttpReply(
                status=response.status_code,
                headers=headers,
                body=content.whole(),
                sent_at=exchange.sent_at or exchange.started_at,
                first_byte_at=first_byte_at,
                received_at=self._clock.now(),
            )
        finally:
            await stream.aclose()

    def _failure(self, error: Exception, exchange: Exchange) -> LLMGatewayError:
        origin = origin_of(error)
        fault = fault_of(origin, exchange)
        sent = Sent.NO if fault in BEFORE_SENDING else exchange.sent
        detail = Masked(f"{type(origin).__name__}: {origin}")
        info = ErrorInfo(fault=fault, endpoint=self.endpoint, sent=sent, detail=detail)
        if self._closed:
            return ClientClosed("The HTTP client was closed during the request.", info=info)
        kind, message = FAILURES[fault]
        return kind(message, info=info)


def _complaint(path: str, headers: Mapping[str, str], fresh_token: str | None) -> str | None:
    if PATH.fullmatch(path) is None or ".." in path.split("/"):
        return "The path has characters or segments that may not be sent."
    if not all(map(TOKEN.fullmatch, headers)) or not RESERVED.isdisjoint(headers):
        return "A header has a name that may not be sent."
    if not all(map(VALUE.fullmatch, headers.values())):
        return "A header has a value with a line break or another character that may not be sent."
    if fresh_token is not None and TOKEN.fullmatch(fresh_token) is None:
        return "The fresh token has characters that may not be sent."
    return None


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    return os.getpid(), asyncio.get_running_loop()


def _joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {text}" if key in joined else text
    return joined


def _checked_url(base_url: str) -> httpx.URL:
    url = None
    if KEY.fullmatch(base_url) and FORBIDDEN_IN_BASE.isdisjoint(base_url):
        with suppress(httpx.InvalidURL):
            url = httpx.URL(base_url)
    if url is None or url.scheme not in {"http", "https"} or not url.host or (url.port or 1) > LAST_PORT:
        message = "The base URL is not https://host[:port][/path] without user, query and fragment."
        raise ConfigurationError(message)
    if url.scheme == "http" and not _is_loopback(url.host):
        message = "The base URL is http, which is for loopback hosts only."
        raise ConfigurationError(message, next_step="Use https: over http anyone on the way reads keys and prompts.")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
