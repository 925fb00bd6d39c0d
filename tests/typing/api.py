"""The public types as a consumer sees them. Nothing here runs: the type checkers read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Literal, assert_never, assert_type

from pydantic import BaseModel, JsonValue, TypeAdapter

from llm_gateway import (
    Completed,
    Health,
    Item,
    LLMClient,
    LLMGatewayError,
    LLMRequest,
    LLMResponse,
    Message,
    Pending,
    Priority,
    Receipt,
    Settings,
    Ticket,
    TicketEvent,
    TicketState,
    TicketStatus,
    Usage,
)
from llm_gateway._core.jobs import ErasureReport
from llm_gateway.errors import RateLimited


class Verdict(BaseModel):
    """A consumer's output type."""

    winner: Literal["a", "b"]


def requests() -> None:
    request = LLMRequest(provider="openai", model="m", prompt="Which is better?", ttl=timedelta(hours=1))
    assert_type(request.prompt, str | None)
    assert_type(request.messages, tuple[Message, ...])
    assert_type(request.conversation, tuple[Message, ...])
    assert_type(request.ttl, timedelta)
    assert_type(request.priority, Priority | None)
    assert_type(request.metadata, dict[str, JsonValue])


def clients(settings: Settings) -> None:
    assert_type(LLMClient.from_settings(), LLMClient)
    assert_type(LLMClient.from_settings(settings), LLMClient)
    assert_type(LLMClient.from_settings().for_tenant("school-12"), LLMClient)


async def calls(client: LLMClient, request: LLMRequest) -> None:
    assert_type(await client.complete(request), Completed[str] | Pending)
    assert_type(await client.complete(request, timeout=timedelta(seconds=5)), Completed[str] | Pending)
    assert_type(await client.complete(request, when_unavailable="raise"), Completed[str])
    assert_type(await client.complete(request, output_type=Verdict), Completed[Verdict] | Pending)
    assert_type(await client.complete(request, output_type=Verdict, when_unavailable="raise"), Completed[Verdict])
    several = TypeAdapter(list[Verdict])
    assert_type(await client.complete(request, output_type=several), Completed[list[Verdict]] | Pending)


async def tickets(client: LLMClient, request: LLMRequest) -> None:
    assert_type(await client.submit(request, output_type=Verdict), Pending)
    assert_type(await client.submit_many([request], output_type=Verdict), list[Pending | LLMGatewayError])
    assert_type(await client.status("t"), TicketStatus)
    assert_type(await client.result("t", timeout=5), Completed[str] | Pending)
    assert_type(await client.result("t", output_type=Verdict), Completed[Verdict] | Pending)
    assert_type(await client.cancel("t"), TicketStatus)
    assert_type(await client.cancel_group("batch-7"), int)
    assert_type(await client.requeue("t"), Pending)
    assert_type(await client.erase(everything=True), ErasureReport)
    assert_type(client.events(group="batch-7"), AsyncIterator[TicketEvent])
    assert_type(await client.health(), Health)


def maps(client: LLMClient, request: LLMRequest) -> None:
    assert_type(client.map([request]), AsyncIterator[Item[str]])
    assert_type(client.map([request], output_type=Verdict, samples=5), AsyncIterator[Item[Verdict]])


def outcomes(outcome: Completed[Verdict] | Pending) -> None:
    match outcome:
        case Completed(response=response):
            assert_type(response, LLMResponse[Verdict])
            assert_type(response.output, Verdict | None)
            assert_type(response.text, str)
            assert_type(response.usage, Usage)
            assert_type(response.cost, Decimal | None)
            assert_type(response.receipt, Receipt)
        case Pending(ticket=ticket):
            assert_type(ticket, Ticket)
            assert_type(ticket.estimated_wait, float | None)
        case _:
            assert_never(outcome)


def statuses(completed: Completed[str], pending: Pending, status: TicketStatus) -> None:
    assert_type(completed.status, Literal["completed"])
    assert_type(pending.status, Literal["processing"])
    assert_type(status.state, TicketState)
    assert_type(status.status, Literal["processing", "completed", "failed", "expired", "cancelled"])


def items(item: Item[Verdict]) -> None:
    assert_type(item.outcome, Completed[Verdict] | Pending | LLMGatewayError)


def events(event: TicketEvent) -> None:
    assert_type(event.metadata, Mapping[str, JsonValue])
    assert_type(event.usage, Usage | None)
    assert_type(event.cost, Decimal | None)


def errors(error: RateLimited) -> None:
    assert_type(error.retry_after, float | None)
    assert_type(error.tried(()), RateLimited)
