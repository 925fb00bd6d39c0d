from __future__ import annotations

import asyncio
import gzip
import socket
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from tests.io.fault_server import FaultServer, Peer, Script, answer, reply

from llm_gateway._facts import Fault, Sent
from llm_gateway._io.http import HttpClient, HttpReply
from llm_gateway._null import SystemClock
from llm_gateway.errors import (
    LLMGatewayError,
    MalformedResponse,
    ProviderUnavailable,
    ResponseTooLarge,
)
from llm_gateway.options import HttpOptions

GZIPPED = "Content-Encoding: gzip\r\n"
MIB = 1024 * 1024


@asynccontextmanager
async def opened(base_url: str, options: HttpOptions | None = None) -> AsyncGenerator[HttpClient, None]:
    client = HttpClient(base_url, options=options or HttpOptions())
    try:
        yield client
    finally:
        await client.aclose()


async def ask(client: HttpClient, *, body: bytes = b"{}", timeout: float = 10.0) -> HttpReply:
    return await client.post("/v1/chat", body=body, headers={}, timeout=timeout)


async def failure_of(script: Script, *, body: bytes = b"{}", timeout: float = 10.0) -> LLMGatewayError:
    options = HttpOptions(max_response_bytes=MIB)
    async with FaultServer(script) as server, opened(server.url, options) as client:
        with pytest.raises(LLMGatewayError) as caught:
            await ask(client, body=body, timeout=timeout)
    return caught.value


def outcome(error: LLMGatewayError) -> tuple[type[LLMGatewayError], Fault | None, Sent]:
    return type(error), error.fault, error.info.sent


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def drip_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await peer.send(b"a")
        await asyncio.sleep(0.02)


async def drip_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(reply(b"", length=1000))
    while True:
        await peer.send(b" ")
        await asyncio.sleep(0.02)


async def close_at_once(peer: Peer) -> None:
    await peer.request()


async def reset_at_once(peer: Peer) -> None:
    await peer.request()
    peer.reset()


def sending_then_closing(content: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(content)

    return script


@pytest.mark.parametrize("script", [hang, drip_head, drip_body])
async def test_deadline_bounds_everything(script: Script) -> None:
    """A provider that hangs or drips bytes cannot outlast the total timeout."""
    error = await failure_of(script, timeout=0.2)

    assert outcome(error) == (ProviderUnavailable, Fault.READ_TIMEOUT, Sent.YES)


async def test_attempt_timeout_bounds_longer_timeouts() -> None:
    """A timeout above the attempt timeout is cut to it."""
    async with FaultServer(hang) as server, opened(server.url, HttpOptions(attempt_timeout=0.2)) as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await ask(client, timeout=3600.0)

    assert caught.value.fault == Fault.READ_TIMEOUT


@pytest.mark.parametrize("script", [close_at_once, reset_at_once])
async def test_fresh_connection_lost_before_reply(script: Script) -> None:
    """A provider that hangs up on a fresh connection is disconnected, and may have seen the request."""
    error = await failure_of(script)

    assert outcome(error) == (ProviderUnavailable, Fault.DISCONNECTED, Sent.YES)


@pytest.mark.parametrize("resets", [False, True])
async def test_kept_connection_lost_before_reply(*, resets: bool) -> None:
    """A kept connection that is closed when it is taken again is stale, and the next call gets a new one."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply())
        await peer.request()
        if resets:
            peer.reset()

    async with FaultServer(script) as server, opened(server.url) as client:
        await ask(client)
        with pytest.raises(ProviderUnavailable) as caught:
            await ask(client)
        after = await ask(client)

    assert outcome(caught.value) == (ProviderUnavailable, Fault.STALE_CONNECTION, Sent.YES)
    assert (after.status, server.connections) == (200, 2)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"HTT", id="cut status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConte", id="cut header"),
        pytest.param(reply(b'{"a":1', length=1000), id="short of its content length"),
        pytest.param(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"a":1\r\n', id="cut chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="bad chunk size"),
        pytest.param(b"HTTP/1.1 9999 ???\r\n\r\n", id="bad status line"),
        pytest.param(b"\x15\x03\x01 not http\r\n\r\n", id="not http"),
        pytest.param(reply(headers=f"X-A: {'a' * 200_000}\r\n"), id="giant header"),
        pytest.param(reply(headers="X-A: a\r\n" * 5_000), id="too many headers"),
        pytest.param(reply(b"\x1f\x8b\x08garbage!!", headers=GZIPPED), id="corrupt gzip"),
        pytest.param(reply(gzip.compress(b"{}" * 1000)[:-9], headers=GZIPPED), id="cut gzip"),
        pytest.param(reply(gzip.compress(b"{}") + b"more", headers=GZIPPED), id="more after gzip"),
        pytest.param(reply(b"{}", headers="Content-Encoding: br\r\n"), id="coding not asked for"),
        pytest.param(reply(b"{}", headers="Content-Encoding: gzip, gzip\r\n"), id="two codings"),
    ],
)
async def test_broken_replies_are_malformed(content: bytes) -> None:
    """A reply that is cut or not HTTP is never used, not even in part."""
    error = await failure_of(sending_then_closing(content))

    assert outcome(error) == (MalformedResponse, Fault.MALFORMED, Sent.YES)


async def test_reset_in_the_body_is_malformed() -> None:
    """A connection reset after the head is a cut reply, not a lost connection."""
    head_seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(b"{", length=1000))
        await head_seen.wait()
        peer.reset()

    class HeadClock(SystemClock):
        def __init__(self) -> None:
            self._asked = 0

        def now(self) -> datetime:
            self._asked += 1
            # Asked at the start, at the first byte sent and, third, when the head of the reply is there.
            if self._asked == 3:
                head_seen.set()
            return super().now()

    async with FaultServer(script) as server:
        client = HttpClient(server.url, clock=HeadClock())
        with pytest.raises(MalformedResponse) as caught:
            await ask(client)
        await client.aclose()

    assert outcome(caught.value) == (MalformedResponse, Fault.MALFORMED, Sent.YES)


async def test_gzip_bomb_stays_small() -> None:
    """A bomb of 200 MiB is refused at the limit, with a peak of memory near the limit."""
    content = reply(gzip.compress(bytes(200 * MIB)), headers=GZIPPED)
    tracemalloc.start()
    try:
        error = await failure_of(sending_then_closing(content))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert outcome(error) == (ResponseTooLarge, Fault.RESPONSE_TOO_LARGE, Sent.YES)
    assert peak < 8 * MIB


@pytest.mark.parametrize(("size", "fits"), [(MIB, True), (MIB + 1, False)])
@pytest.mark.parametrize("coded", [False, True])
async def test_limit_is_exact(*, size: int, fits: bool, coded: bool) -> None:
    """A reply of exactly the limit is taken and one byte more is not, compressed or not."""
    body = bytes(size)
    content = reply(gzip.compress(body), headers=GZIPPED) if coded else reply(body)
    async with (
        FaultServer(answer(content)) as server,
        opened(server.url, HttpOptions(max_response_bytes=MIB)) as client,
    ):
        if fits:
            assert (await ask(client)).body == body
        else:
            with pytest.raises(ResponseTooLarge):
                await ask(client)


@pytest.mark.parametrize("content", [b"", b"<html>login</html>", b'{"a":"\xff\xfe"}', b'{"a": NaN}', b'{"a'])
async def test_content_is_not_judged(content: bytes) -> None:
    """What stands in a whole body is the adapter's to judge: it comes back byte for byte."""
    async with FaultServer(answer(reply(content))) as server, opened(server.url) as client:
        assert (await ask(client)).body == content


async def test_gzip_is_decoded() -> None:
    """A compressed reply comes back decoded."""
    content = reply(gzip.compress(b'{"a": 1}'), headers=GZIPPED)
    async with FaultServer(answer(content)) as server, opened(server.url) as client:
        assert (await ask(client)).body == b'{"a": 1}'


@pytest.mark.parametrize("status", ["204 No Content", "307 Temporary Redirect", "401 No", "429 Slow", "503 Busy"])
async def test_every_status_is_a_reply(status: str) -> None:
    """No status is an error here, and a redirect is not followed."""
    async with FaultServer(answer(reply())) as other:
        content = reply(b"", status=status, headers=f"Location: {other.url}/steal\r\n")
        async with FaultServer(answer(content)) as server, opened(server.url) as client:
            result = await ask(client)

        assert (result.status, other.connections) == (int(status[:3]), 0)


async def test_reply_has_headers_and_times() -> None:
    """Header names are lower-case, repeated ones joined, and the three times are in order and UTC."""
    content = reply(headers="X-Id: a\r\nx-ID: b\r\n")
    async with FaultServer(answer(content)) as server, opened(server.url) as client:
        result = await ask(client)

    assert result.headers["x-id"] == "a, b"
    assert result.sent_at <= result.first_byte_at <= result.received_at
    assert str(result.sent_at.tzinfo) == "UTC"
    assert "body" not in repr(result)


async def test_refused_connection() -> None:
    """A closed port is a failed connection, and nothing was sent."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        async with opened(f"http://127.0.0.1:{held.getsockname()[1]}") as client:
            with pytest.raises(ProviderUnavailable) as caught:
                await ask(client)

    assert outcome(caught.value) == (ProviderUnavailable, Fault.CONNECT, Sent.NO)
    assert caught.value.info.endpoint == client.endpoint


async def test_unknown_host() -> None:
    """A name that does not resolve is a failed connection."""
    async with opened("https://no-such-host.invalid", HttpOptions(connect_timeout=2.0)) as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await ask(client)

    assert outcome(caught.value) == (ProviderUnavailable, Fault.CONNECT, Sent.NO)


@pytest.mark.parametrize("limits", [(0.2, 10.0), (10.0, 0.2)], ids=["connect timeout", "deadline"])
async def test_waiting_for_a_connection(limits: tuple[float, float]) -> None:
    """A call that gets no connection from the pool is a local matter, and frees its place."""
    connect, timeout = limits
    taken, release = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            taken.set()
            await release.wait()
            await peer.send(reply())

    options = HttpOptions(max_connections=1, connect_timeout=connect)
    async with FaultServer(script) as server, opened(server.url, options) as client:
        first = asyncio.create_task(ask(client))
        await taken.wait()
        with pytest.raises(ProviderUnavailable) as caught:
            await ask(client, timeout=timeout)
        release.set()
        replies = [await first, await ask(client)]

    assert outcome(caught.value) == (ProviderUnavailable, Fault.LOCAL_BUSY, Sent.NO)
    assert [item.status for item in replies] == [200, 200]


async def test_upload_that_is_not_taken_is_partial() -> None:
    """When the provider stops reading, the request counts as sent in part."""

    async def script(peer: Peer) -> None:
        peer.pause()
        await asyncio.Event().wait()

    error = await failure_of(script, body=bytes(64 * MIB), timeout=0.5)

    assert outcome(error) == (ProviderUnavailable, Fault.READ_TIMEOUT, Sent.PARTIAL)


async def test_reply_before_the_upload_ends() -> None:
    """A refusal that comes before the whole body was taken is a reply, and the connection is not used again."""

    async def script(peer: Peer) -> None:
        peer.pause()
        await peer.send(reply(status="413 Too Large"))
        await asyncio.Event().wait()

    async with FaultServer(script) as server, opened(server.url) as client:
        replies = [await ask(client, body=bytes(64 * MIB)) for _ in range(2)]

    assert [item.status for item in replies] == [413, 413]
    assert server.connections == 2


async def test_large_body_arrives_whole() -> None:
    """A body of many pieces arrives as it was given, with its length."""
    body = bytes(range(256)) * 2_000
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(reply())

    async with FaultServer(script) as server, opened(server.url) as client:
        await ask(client, body=body)

    head, _, content = seen[0].partition(b"\r\n\r\n")
    assert content == body
    assert b"transfer-encoding" not in head.lower()
