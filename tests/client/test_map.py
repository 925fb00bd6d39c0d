"""Many questions at once, and what a development cache does to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import pytest
from pydantic import AfterValidator, TypeAdapter
from tests.client.desk import Desk, outage

from llm_gateway import Completed, Item, LLMClient, LLMRequest, Pending
from llm_gateway._facts import Fault
from llm_gateway.caches.dev import DevCache
from llm_gateway.errors import ErrorInfo, InvalidRequest, LLMGatewayError, ProviderUnavailable


def pairs(count: int) -> list[LLMRequest]:
    """Make so many different questions."""
    return [LLMRequest(provider="fake", model="m-1", prompt=f"Pair {number}?") for number in range(count)]


def answered(outcome: object) -> Completed[str]:
    """Require a result."""
    assert isinstance(outcome, Completed)
    return cast("Completed[str]", outcome)


async def test_items(desk: Desk, client: LLMClient) -> None:
    """Every request gives one item, which tells which request and which draw it is the outcome of."""
    requests = pairs(4)
    items = [item async for item in client.map(requests, samples=3, concurrency=5)]
    assert sorted((item.index, item.sample) for item in items) == [(i, s) for i in range(4) for s in range(3)]
    for item in items:
        assert item.request == requests[item.index].model_copy(update={"sample": item.sample})
        assert answered(item.outcome).response.receipt.sample == item.sample
    assert len({answered(item.outcome).response.receipt.response_id for item in items}) == 12


async def test_as_they_come(desk: Desk, client: LLMClient) -> None:
    """An outcome is given out as soon as it is there, whatever is still being asked."""
    desk.provider.script(outage(retry_after=5.0))
    stream = client.map(pairs(3), concurrency=3)
    first = [(await anext(stream)).index, (await anext(stream)).index]
    desk.clock.advance(10.0)
    assert (sorted(first), (await anext(stream)).index) == ([1, 2], 0)


async def test_concurrency(desk: Desk, client: LLMClient) -> None:
    """Never more than so many are asked at once, and the requests are taken one by one."""
    taken: list[int] = []

    def requests() -> Iterator[LLMRequest]:
        for number, request in enumerate(pairs(10)):
            taken.append(number)
            yield request

    desk.provider.hold()
    stream = client.map(requests(), concurrency=3)
    first = asyncio.ensure_future(anext(stream))
    await desk.provider.wait_for_calls(3)
    for _ in range(30):
        await asyncio.sleep(0)
    assert (len(desk.provider.calls), len(taken)) == (3, 3)
    desk.provider.release()
    assert 1 + len([await first, *[item async for item in stream]]) == 11


@pytest.mark.parametrize("sized", [True, False])
async def test_progress(client: LLMClient, *, sized: bool) -> None:
    """Progress is told after each outcome, with the total where it is known."""
    told: list[tuple[int, int | None]] = []
    requests = pairs(3)
    stream = client.map(
        requests if sized else iter(requests), samples=2, progress=lambda done, total: told.append((done, total))
    )
    assert len([item async for item in stream]) == 6
    assert told == [(done, 6 if sized else None) for done in range(1, 7)]


async def test_errors_are_items(desk: Desk, client: LLMClient) -> None:
    """An error, a ticket and a result are outcomes alike, and none stops the others."""
    desk.provider.script(InvalidRequest("No.", info=ErrorInfo(fault=Fault.BAD_REQUEST)), outage(Fault.UNKNOWN), "fine")
    stranger = LLMRequest(provider="nobody", model="m-1", prompt="p")
    items = {item.index: item.outcome async for item in client.map([*pairs(3), stranger], concurrency=1)}
    kinds = [type(items[index]) for index in range(4)]
    assert kinds == [InvalidRequest, Pending, Completed, InvalidRequest]


async def test_invalid_outputs_are_items(desk: Desk, client: LLMClient) -> None:
    """Each outcome is read as the output type; an invalid one is an item of its own."""
    desk.provider.script('{"value": 4}', "four")
    items = [item async for item in client.map(pairs(2), output_type=int, concurrency=1)]
    first, second = (item.outcome for item in items)
    assert isinstance(first, Completed)
    assert (first.response.output, isinstance(second, LLMGatewayError)) == (4, True)


async def test_leaving_early(desk: Desk, client: LLMClient) -> None:
    """Whoever leaves early cancels what is still being asked."""
    base = asyncio.all_tasks()
    desk.provider.script("first")
    stream = cast("AsyncGenerator[Item[str]]", client.map(pairs(5), concurrency=2))
    await anext(stream)
    desk.provider.hold()
    async with asyncio.timeout(5):
        await stream.aclose()
    assert asyncio.all_tasks() == base
    assert (await client.health()).depth == 0


async def test_cancelled(desk: Desk, client: LLMClient) -> None:
    """Cancelling whoever iterates cancels what is being asked."""
    base = asyncio.all_tasks()
    desk.provider.hold()
    task = asyncio.ensure_future(anext(client.map(pairs(5), concurrency=5)))
    await desk.provider.wait_for_calls(5)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    for _ in range(30):
        await asyncio.sleep(0)
    assert (task.cancelled(), asyncio.all_tasks() - base) == (True, set())


@pytest.mark.parametrize(("samples", "concurrency"), [(0, 1), (-1, 1), (1, 0)])
async def test_refused(client: LLMClient, samples: int, concurrency: int) -> None:
    """No samples, or none at once, is an invalid request, told at once."""
    with pytest.raises(InvalidRequest):
        client.map(pairs(1), samples=samples, concurrency=concurrency)


async def test_keys_of_samples(desk: Desk, client: LLMClient) -> None:
    """Several draws of a request with an idempotency key have a key each, so that each may get a ticket."""
    desk.provider.script(*[outage(Fault.UNKNOWN)] * 3)
    keyed = pairs(1)[0].model_copy(update={"idempotency_key": "k"})
    items = [item async for item in client.map([keyed], samples=3, concurrency=1)]
    assert [item.request.idempotency_key for item in items] == ["k:0", "k:1", "k:2"]
    assert len({item.outcome.ticket.id for item in items if isinstance(item.outcome, Pending)}) == 3


@pytest.fixture
def cached(desk: Desk, tmp_path: Path) -> LLMClient:
    """Make a client with a development cache."""
    return LLMClient([desk.provider], desk.queue, replace(desk.parts, cache=DevCache(tmp_path / "cache")))


async def test_five_draws_replayed(desk: Desk, cached: LLMClient) -> None:
    """Five samples are five different stored draws, and a rerun replays each without a call, marked as replayed."""
    async with cached as client:
        runs = [[item async for item in client.map(pairs(1), samples=5, concurrency=2)] for _ in range(2)]
        calls = len(desk.provider.calls)
    first, second = ({item.sample: answered(item.outcome).response for item in run} for run in runs)
    assert (len({response.text for response in first.values()}), calls) == (5, 5)
    assert {sample: response.text for sample, response in first.items()} == {
        sample: response.text for sample, response in second.items()
    }
    assert [{(answered(item.outcome).response.receipt.source) for item in run} for run in runs] == [
        {"live"},
        {"dev_cache"},
    ]
    assert all(first[sample].receipt.response_id == second[sample].receipt.response_id for sample in range(5))
    assert len(desk.sink.receipts) == 5


async def test_complete_uses_the_cache(desk: Desk, cached: LLMClient, question: LLMRequest) -> None:
    """Asking again in development replays, and another sample or question does not."""
    async with cached as client:
        sources = [
            answered(await client.complete(request)).response.receipt.source
            for request in (question, question, question.model_copy(update={"sample": 1}), *pairs(1))
        ]
    assert (sources, len(desk.provider.calls)) == (["live", "dev_cache", "live", "live"], 3)


async def test_replay_that_is_no_longer_valid(desk: Desk, cached: LLMClient, question: LLMRequest) -> None:
    """An answer that a stricter check of the same schema refuses is not replayed: the question is asked anew."""
    desk.provider.script('{"value": 3}', '{"value": 9}')
    strict = TypeAdapter[int](Annotated[int, AfterValidator(at_least_five)])
    async with cached as client:
        loose = await client.complete(question, output_type=int)
        asked = [await client.complete(question, output_type=strict) for _ in range(2)]
    assert isinstance(loose, Completed)
    values = [one.response.output for one in asked if isinstance(one, Completed)]
    sources = [one.response.receipt.source for one in asked if isinstance(one, Completed)]
    assert (3, [9, 9], ["live", "dev_cache"]) == (loose.response.output, values, sources)


def at_least_five(value: int) -> int:
    """Refuse small numbers; a schema knows nothing of that."""
    if value < 5:
        message = "too small"
        raise ValueError(message)
    return value


async def test_submit_never_uses_the_cache(desk: Desk, cached: LLMClient, question: LLMRequest) -> None:
    """A queued request is asked anew, whatever the cache holds."""
    async with cached as client:
        await client.complete(question)
        ticket = (await client.submit(question)).ticket.id
        async with client.worker():
            outcome = answered(await client.result(ticket, timeout=5))
        again = answered(await client.complete(question))
    assert (outcome.response.receipt.source, len(desk.provider.calls)) == ("live", 2)
    assert again.response.text == "answer 1"


async def test_long_key_of_samples(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A key of the greatest length still gives each draw a key of its own, which can be written and read again."""
    desk.provider.script(*(outage() for _ in range(6)))
    keyed = question.model_copy(update={"idempotency_key": "k" * 255})
    items = [item async for item in client.map([keyed], samples=2, concurrency=1)]
    keys = [item.outcome.ticket.idempotency_key for item in items if isinstance(item.outcome, Pending)]
    assert 2 == len(set(keys))
    assert [key for key in keys if len(key) > 255] == []


async def test_invalid_answers_are_asked_for_again(desk: Desk, client: LLMClient) -> None:
    """Each request of many may have its answer asked for again, as a single one may."""
    desk.provider.script("no number", '{"value": 4}')
    (item,) = [item async for item in client.map(pairs(1), output_type=int, output_retries=1)]
    assert isinstance(item.outcome, Completed)
    assert (4, 2) == (item.outcome.response.output, len(item.outcome.response.receipt.attempts))


async def test_outage_without_tickets(desk: Desk, client: LLMClient) -> None:
    """Who would only run the cell again can have an outage as an error: no ticket is left to be paid for beside it."""
    desk.provider.script(outage(Fault.ACCELERATION))
    (item,) = [item async for item in client.map(pairs(1), when_unavailable="raise")]
    assert isinstance(item.outcome, ProviderUnavailable)
    assert [] == await desk.queue.list_jobs()


@pytest.mark.parametrize("options", [{"output_retries": -1}, {"when_unavailable": "wait"}])
async def test_options_are_checked_at_once(client: LLMClient, options: dict[str, object]) -> None:
    """An option that cannot be used is one error, not one for each request."""
    with pytest.raises(InvalidRequest):
        cast("Callable[..., object]", client.map)(pairs(3), **options)
