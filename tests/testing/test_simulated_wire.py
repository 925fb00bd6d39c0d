"""Every fault of the catalogue, seen from a client's socket."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trustme

from llm_gateway._null import SystemClock
from llm_gateway.testing.simulated import Faults, SimulatedFault, SimulatedProvider

ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Which is better?"}]}
KEY = {"Authorization": "Bearer sk-test"}


class SteppedClock(SystemClock):
    """Waits until it is stepped, and tells for how long it was asked to wait."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self.steps = asyncio.Semaphore(0)
        self.left = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.asked.put_nowait(seconds)
        try:
            await self.steps.acquire()
        except asyncio.CancelledError:
            self.left.set()
            raise


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as simulated:
        yield simulated


async def ask(sim: SimulatedProvider) -> httpx.Response:
    """Make one call on a connection of its own."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        return await client.post(f"{sim.openai_url}/chat/completions", json=ASK, headers=KEY)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Faults.RESET, httpx.ReadError),
        (Faults.CLOSED, httpx.RemoteProtocolError),
        (Faults.RESET_IN_BODY, httpx.ReadError),
        (Faults.SHORT_BODY, httpx.RemoteProtocolError),
        (Faults.CHUNKED_CUT, httpx.RemoteProtocolError),
        (Faults.BAD_STATUS_LINE, httpx.RemoteProtocolError),
        (Faults.GARBAGE, httpx.RemoteProtocolError),
        (Faults.CORRUPT_GZIP, httpx.DecodingError),
        (Faults.giant_header(), httpx.RemoteProtocolError),
    ],
    ids=lambda value: value.name if isinstance(value, SimulatedFault) else "",
)
async def test_broken_transport(sim: SimulatedProvider, fault: SimulatedFault, error: type[Exception]) -> None:
    """Each broken transport is the client error it stands for, for one call only, and is logged by name."""
    sim.script(fault)

    with pytest.raises(error):
        await ask(sim)

    assert 200 == (await ask(sim)).status_code
    assert [fault.name, "ok"] == [call.outcome for call in sim.calls]
    assert 1 == len(sim.response_ids)


@pytest.mark.parametrize(
    ("fault", "content"),
    [
        (Faults.EMPTY, b""),
        (Faults.HTML, b"<html>Log in to the network</html>"),
        (Faults.WRONG_SHAPE, b'{"ok": true}'),
    ],
)
async def test_wrong_body(sim: SimulatedProvider, fault: SimulatedFault, content: bytes) -> None:
    """A wrong body comes under status 200."""
    sim.script(fault)

    response = await ask(sim)

    assert (200, content) == (response.status_code, response.content)


@pytest.mark.parametrize("fault", [Faults.INVALID_JSON, Faults.UNFRAMED_CUT], ids=lambda fault: fault.name)
async def test_cut_json(sim: SimulatedProvider, fault: SimulatedFault) -> None:
    """A body cut in the middle arrives without any transport error and is no JSON."""
    sim.script(fault)

    response = await ask(sim)

    assert response.content.startswith(b'{"id": "chatcmpl-')
    with pytest.raises(json.JSONDecodeError):
        response.json()


async def test_nan(sim: SimulatedProvider) -> None:
    """The NaN fault writes NaN where usage stands."""
    sim.script(Faults.NAN)

    assert b'"prompt_tokens": NaN' in (await ask(sim)).content


async def test_bad_utf8(sim: SimulatedProvider) -> None:
    """The UTF-8 fault puts a byte sequence that no decoder accepts into an otherwise whole body."""
    sim.script(Faults.BAD_UTF8)

    with pytest.raises(UnicodeDecodeError):
        (await ask(sim)).content.decode()


async def test_wrong_content_type(sim: SimulatedProvider) -> None:
    """A valid answer can come under another content type."""
    sim.script(Faults.WRONG_CONTENT_TYPE)

    response = await ask(sim)

    assert ("text/plain", "chat.completion") == (response.headers["content-type"], response.json()["object"])


async def test_gzip_bomb(sim: SimulatedProvider) -> None:
    """A small body unpacks to the size asked for."""
    sim.script(Faults.gzip_bomb(8_000_000))

    response = await ask(sim)

    assert 8_000_000 == len(response.content)
    assert int(response.headers["content-length"]) < 80_000


async def test_redirect(sim: SimulatedProvider) -> None:
    """A redirect names the other place."""
    sim.script(Faults.redirect("https://elsewhere.test/v1"))

    response = await ask(sim)

    assert (307, "https://elsewhere.test/v1") == (response.status_code, response.headers["location"])


async def test_hang_until_released(sim: SimulatedProvider) -> None:
    """A call that hangs has its answer once it is released, whatever came meanwhile."""
    sim.script(Faults.HANG)
    hanging = asyncio.create_task(ask(sim))
    await sim.wait_for_calls(1)
    assert 200 == (await ask(sim)).status_code
    assert not hanging.done()

    sim.release()

    assert 200 == (await hanging).status_code


async def test_hang_ends_with_the_simulator() -> None:
    """Closing the simulator cuts the calls that hang."""
    async with SimulatedProvider() as sim:
        sim.outage(Faults.HANG_IN_BODY)
        hanging = asyncio.create_task(ask(sim))
        await sim.wait_for_calls(1)

    with pytest.raises(httpx.TransportError):
        await hanging


@pytest.mark.parametrize(
    ("fault", "at_once", "dripped"),
    [(Faults.slow_headers(0.3), b"", b"HTTP/1.1 200 OK"), (Faults.slow_body(0.3), b"\r\n\r\n", b'{"id": "chatcmpl-')],
    ids=["headers", "body"],
)
async def test_slow(fault: SimulatedFault, at_once: bytes, dripped: bytes) -> None:
    """A slow reply comes byte by byte, with the pause asked for after each."""
    clock = SteppedClock()
    async with SimulatedProvider(clock=clock) as sim:
        sim.script(fault)
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(sim.openai_url).port)
        body = json.dumps(ASK).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await (reader.readuntil(at_once) if at_once else asyncio.sleep(0))
        for byte in dripped:
            assert byte == (await reader.readexactly(1))[0]
            assert 0.3 == await clock.asked.get()
            assert clock.asked.empty()
            clock.steps.release()
        writer.close()


async def test_refused_and_recovered_on_the_same_port(sim: SimulatedProvider) -> None:
    """Refused connections reach nobody; after recovery the same port answers, also over a pooled client."""
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"{sim.openai_url}/chat/completions"
        await client.post(url, json=ASK, headers=KEY)
        for _ in range(3):
            sim.outage(Faults.REFUSED)
            with pytest.raises(httpx.ConnectError):
                await client.post(url, json=ASK, headers=KEY)
            sim.recover()
            assert 200 == (await client.post(url, json=ASK, headers=KEY)).status_code

    assert 4 == sim.call_count


async def test_refusing_at_once_after_recovering(sim: SimulatedProvider) -> None:
    """Outage and recovery may follow one another without the loop coming round."""
    for _ in range(3):
        sim.outage(Faults.REFUSED)
        sim.recover()
    sim.outage(Faults.REFUSED)

    with pytest.raises(httpx.ConnectError):
        await ask(sim)
    sim.outage(Faults.OVERLOADED)
    assert 503 == (await ask(sim)).status_code


async def test_script_refuses_refusal(sim: SimulatedProvider) -> None:
    """A refused connection cannot be scripted for one call."""
    with pytest.raises(ValueError, match="use outage"):
        sim.script(Faults.REFUSED)


async def test_stale_keep_alive(sim: SimulatedProvider) -> None:
    """The connection that seemed kept alive is reset when it is used again, and that call is not counted."""
    sim.script(Faults.STALE_KEEP_ALIVE)
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"{sim.openai_url}/chat/completions"
        assert 200 == (await client.post(url, json=ASK, headers=KEY)).status_code
        with pytest.raises(httpx.TransportError):
            await client.post(url, json=ASK, headers=KEY)
        assert 200 == (await client.post(url, json=ASK, headers=KEY)).status_code

    assert 2 == sim.call_count


async def test_keep_alive(sim: SimulatedProvider) -> None:
    """Calls follow one another on one connection."""
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=1)) as client:
        ports: set[int] = set()
        for _ in range(3):
            response = await client.post(f"{sim.openai_url}/chat/completions", json=ASK, headers=KEY)
            ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])

    assert 1 == len(ports)


async def test_chunked_request(sim: SimulatedProvider) -> None:
    """A request body in chunks is read whole."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"model": "gpt-4o", '
        yield b'"messages": [{"role": "user", "content": "Hi"}]}'

    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.post(f"{sim.openai_url}/chat/completions", content=pieces(), headers=KEY)

    assert (200, "gpt-4o") == (response.status_code, sim.calls[0].model)


async def test_a_client_that_leaves_frees_its_connection() -> None:
    """What waits on the server's side ends as soon as its client has gone."""
    clock = SteppedClock()
    async with SimulatedProvider(clock=clock, latency=5) as sim:
        waiting = asyncio.create_task(ask(sim))
        assert 5 == await clock.asked.get()

        waiting.cancel()

        async with asyncio.timeout(5):
            await clock.left.wait()
        assert 1 == sim.call_count


async def test_nothing_is_left_behind() -> None:
    """After close no task and no socket is left, with idle, hanging and refused clients alike."""
    before = asyncio.all_tasks()
    async with httpx.AsyncClient(trust_env=False) as client:
        async with SimulatedProvider() as sim:
            url = f"{sim.openai_url}/chat/completions"
            await client.post(url, json=ASK, headers=KEY)
            sim.outage(Faults.HANG)
            hanging = asyncio.create_task(client.post(url, json=ASK, headers=KEY))
            await sim.wait_for_calls(2)
            sim.outage(Faults.REFUSED)
        with pytest.raises(httpx.TransportError):
            await hanging
    gc.collect()

    assert before == asyncio.all_tasks()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", httpx.URL(sim.openai_url).port)


async def test_an_answerer_that_raises_is_told_at_close() -> None:
    """What a function that answers raises closes the connection and comes out when the simulator closes."""

    def broken(question: object) -> str:
        raise ZeroDivisionError

    async def call() -> None:
        async with SimulatedProvider(answer=broken) as sim:
            with pytest.raises(httpx.RemoteProtocolError):
                await ask(sim)

    with pytest.raises(ZeroDivisionError):
        await call()


async def test_not_http(sim: SimulatedProvider) -> None:
    """Bytes that are no HTTP request close the connection and are no call."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(sim.openai_url).port)
    writer.write(b"hello\r\n\r\n")

    assert b"" == await reader.read()
    writer.close()
    assert 0 == sim.call_count


async def test_tls(tmp_path: Path) -> None:
    """With a context it serves https, and faults cut TLS connections too."""
    authority = trustme.CA()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    served.load_cert_chain(tmp_path / "pem")
    trusting = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())

    async with SimulatedProvider(tls=served) as sim, httpx.AsyncClient(trust_env=False, verify=trusting) as client:
        url = f"{sim.openai_url}/chat/completions"
        assert url.startswith("https://127.0.0.1:")
        assert 200 == (await client.post(url, json=ASK, headers=KEY)).status_code
        sim.script(Faults.RESET)
        with pytest.raises(httpx.TransportError):
            await client.post(url, json=ASK, headers=KEY)
