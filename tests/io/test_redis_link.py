"""One connection shared by many callers: order, cancellation, loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from tests.queues.redis_server import BINARIES, RedisServer
from tests.queues.tcp_proxy import Cut, proxy_to

from llm_gateway._io.redis import Ask, LinkLost, RedisLink, Refused


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a server."""
    found = RedisServer(tmp_path_factory.mktemp("redis"), BINARIES[0]).start()
    yield found
    found.stop()


@pytest.fixture
async def link(server: RedisServer) -> AsyncGenerator[RedisLink]:
    """Give a link to it."""
    made = RedisLink(server.url, connect_timeout=5.0, reply_timeout=5.0)
    yield made
    await made.aclose()


async def test_replies_go_to_who_asked(link: RedisLink) -> None:
    """Of many callers at once each gets its own reply."""
    replies = await asyncio.gather(*(link.ask(("ECHO", str(number)), ("ECHO", "x")) for number in range(500)))
    assert [[str(number).encode(), b"x"] for number in range(500)] == replies


async def test_cancelled_callers_leave_it_in_step(link: RedisLink) -> None:
    """Callers that are cancelled at any moment neither take another's reply nor cost the connection."""
    await link.ask(("PING",))
    asked = [asyncio.create_task(link.ask(("ECHO", str(number)))) for number in range(300)]
    for turn, task in enumerate(asked):
        if turn % 3 == 0:
            task.cancel()
        if turn % 7 == 0:
            await asyncio.sleep(0)
    told = await asyncio.gather(*asked, return_exceptions=True)
    kept = {number: [str(number).encode()] for number in range(300) if number % 3}
    assert kept == {number: reply for number, reply in enumerate(told) if number % 3}
    (listed,) = await link.ask(("CLIENT", "LIST"))
    assert isinstance(listed, bytes)
    assert 1 == listed.count(b"cmd=client")


async def test_error_is_a_reply(link: RedisLink) -> None:
    """What the server refuses is told to its caller alone, without the server's text."""
    bad, good = await asyncio.gather(link.ask(("NOSUCH", "secret")), link.ask(("ECHO", "x")))
    assert ([Refused("ERR")], [b"x"]) == (bad, good)


async def test_barrier_is_sent_once_for_many(link: RedisLink) -> None:
    """Writes that leave together are followed by one barrier, whose reply each of them gets."""
    link.barrier = ("INCR", "barrier")
    await link.ask(("DEL", "barrier"))
    many = await asyncio.gather(*(link.ask(("ECHO", "x"), barred=True) for _ in range(50)))
    assert [[b"x", 1]] * 50 == many


async def test_lost_reply_is_told(server: RedisServer) -> None:
    """A reply that is lost is told as possibly carried out, and the next call makes a new connection."""
    async with proxy_to(server.port) as proxy:
        link = RedisLink(proxy.url, connect_timeout=5.0, reply_timeout=5.0)
        await link.ask(("DEL", "n"))
        proxy.cut = Cut.RESET_AFTER_REQUEST
        with pytest.raises(LinkLost) as lost:
            await link.ask(("INCR", "n"))
        assert lost.value.sent
        assert [b"1"] == await link.ask(("GET", "n"))
        await link.aclose()


async def test_silence_is_given_up(server: RedisServer) -> None:
    """A server that says nothing is given up after the reply timeout; all who wait are told."""
    async with proxy_to(server.port) as proxy:
        link = RedisLink(proxy.url, connect_timeout=5.0, reply_timeout=0.2)
        await link.ask(("PING",))
        proxy.cut = Cut.BLACKHOLE
        told = await asyncio.gather(*(link.ask(("PING",)) for _ in range(5)), return_exceptions=True)
        assert [True] * 5 == [isinstance(error, LinkLost) and error.sent for error in told]
        await link.aclose()


async def test_no_server_is_told() -> None:
    """Without a server nothing was sent, and the caller is told so."""
    link = RedisLink("redis://127.0.0.1:1/0", connect_timeout=1.0, reply_timeout=1.0)
    with pytest.raises(LinkLost) as lost:
        await link.ask(("PING",))
    assert not lost.value.sent
    await link.aclose()


async def test_greeting_comes_before_everything(server: RedisServer) -> None:
    """Each new connection is greeted once before anybody's command goes over it."""
    greeted = list[list[object]]()

    async def greet(_: RedisLink, ask: Ask) -> None:
        greeted.append(await ask(("GET", "order")))

    link = RedisLink(server.url, connect_timeout=5.0, reply_timeout=5.0, greet=greet)
    await asyncio.gather(*(link.ask(("SET", "order", "later")) for _ in range(20)))
    assert [[None]] == greeted
    await link.ask(("DEL", "order"))
    await link.aclose()


async def test_closed_link_refuses(link: RedisLink) -> None:
    """After closing nobody is kept waiting."""
    await link.ask(("PING",))
    await link.aclose()
    with pytest.raises(LinkLost):
        await link.ask(("PING",))
