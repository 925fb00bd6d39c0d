from __future__ import annotations

import asyncio
import copy
import os
import pickle
import random

import pytest
from tests.io.fault_server import FaultServer, Peer, answer, reply

from llm_gateway._facts import Sent
from llm_gateway._io.http import HttpClient, HttpReply
from llm_gateway.errors import ClientClosed, ConfigurationError
from llm_gateway.options import HttpOptions

CANCELS = 10_000
BATCH = 100
TICKS = 40


async def ask(client: HttpClient, body: bytes = b"good", timeout: float = 30.0) -> HttpReply:
    return await client.post("/chat", body=body, headers={}, timeout=timeout)


async def storm(client: HttpClient, dice: random.Random) -> list[bool]:
    """Start a batch of calls, cancel each after some turns of the loop, and tell which ended as cancelled."""
    tasks = [asyncio.create_task(ask(client, dice.choice([b"wait", b"read"]))) for _ in range(BATCH)]
    due = [dice.randrange(TICKS) for _ in tasks]
    for tick in range(TICKS):
        await asyncio.sleep(0)
        for task, when in zip(tasks, due, strict=True):
            if when == tick:
                task.cancel()
    await asyncio.wait(tasks)
    return [task.cancelled() for task in tasks]


async def test_cancellations_leave_the_pool_usable() -> None:
    """After 10 000 cancellations while queued, connecting, waiting and reading, 100 calls at once succeed."""
    reached = {b"wait": 0, b"read": 0, b"good": 0}

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            wish = request[-4:]
            reached[wish] += 1
            if wish == b"good":
                await peer.send(reply())
            elif wish == b"read":
                await peer.send(reply(b"{", length=1000))

    dice = random.Random(7)
    async with FaultServer(script) as server:
        client = HttpClient(server.url, options=HttpOptions(max_connections=BATCH // 2))
        ended = [cancelled for _ in range(CANCELS // BATCH) for cancelled in await storm(client, dice)]
        replies = await asyncio.gather(*(ask(client) for _ in range(100)))
        await client.aclose()

    assert ended == [True] * CANCELS
    assert [item.status for item in replies] == [200] * 100
    # The cancels did fall into every phase: some before the request was there, some with it, some with half a reply.
    assert 0 < reached[b"wait"] + reached[b"read"] < CANCELS
    assert min(reached.values()) >= 100


async def test_cancelled_call_ends_as_cancelled() -> None:
    """A timeout of the caller around a call is the caller's own, not an error of the provider."""

    async def hang(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with FaultServer(hang) as server:
        client = HttpClient(server.url)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await ask(client)
        await client.aclose()


async def test_closed_client() -> None:
    """A closed client refuses calls, shows that it is closed, and can be closed again."""
    client = HttpClient("http://127.0.0.1:9")
    await client.aclose()
    await client.aclose()

    with pytest.raises(ClientClosed):
        await ask(client)
    assert repr(client) == "<HttpClient 127.0.0.1:9 closed>"


async def test_closing_ends_running_calls() -> None:
    """A call that is under way when the client closes says so, and how much of it was sent."""
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await peer.gone()

    async with FaultServer(script) as server:
        client = HttpClient(server.url)
        task = asyncio.create_task(ask(client))
        await arrived.wait()
        await client.aclose()
        with pytest.raises(ClientClosed) as caught:
            await task

    assert caught.value.info.sent == Sent.YES


def test_neither_pickled_nor_copied() -> None:
    """A client cannot be pickled or copied."""
    client = HttpClient("http://127.0.0.1:9")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            attempt(client)


def test_second_event_loop_is_refused() -> None:
    """A client used in one event loop refuses another, and closing it there leaves the first loop's connections."""
    with asyncio.Runner() as first, asyncio.Runner() as second:
        server = FaultServer(answer(reply()))
        first.run(server.__aenter__())
        client = HttpClient(server.url)
        assert first.run(ask(client)).status == 200
        with pytest.raises(ConfigurationError, match="another event loop"):
            second.run(ask(client))
        second.run(client.aclose())
        first.run(client.aclose())
        first.run(server.__aexit__(None, None, None))


def test_forked_child_is_refused() -> None:
    """A child process that inherited a used client is refused, and the parent's goes on working."""
    with asyncio.Runner() as runner:
        server = FaultServer(answer(reply()))
        runner.run(server.__aenter__())
        client = HttpClient(server.url)
        assert runner.run(ask(client)).status == 200
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - the child has its own coverage
            _report_from_child(client, writing)
        os.close(writing)
        said = os.read(reading, 1_000).decode()
        os.close(reading)
        os.waitpid(child, 0)
        after = runner.run(ask(client))
        runner.run(client.aclose())
        runner.run(server.__aexit__(None, None, None))

    assert said.startswith("ConfigurationError: The HTTP client belongs to another process")
    assert (after.status, server.connections) == (200, 1)


def _report_from_child(client: HttpClient, writing: int) -> None:  # pragma: no cover - runs in the child
    try:
        asyncio.run(ask(client))
    except BaseException as error:
        os.write(writing, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)
