"""What a client does with tickets: submit, follow, fetch, cancel, erase; and how things stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TypeVar, cast, overload

from pydantic import TypeAdapter

from llm_gateway._core.given import require_name, require_request, require_ticket_id, seconds_of
from llm_gateway._core.health import Health
from llm_gateway._core.jobs import ErasureReport
from llm_gateway._core.outcomes import Completed, Pending, TicketEvent, TicketStatus
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.schema import output_type_of
from llm_gateway._engine import Engine
from llm_gateway._submitting import Submitting
from llm_gateway.errors import LLMGatewayError

__all__ = ["Duration", "Output", "TicketCalls"]

T = TypeVar("T")
Duration = float | timedelta
Output = type[T] | TypeAdapter[T]


class TicketCalls:
    """The calls of a client that concern tickets."""

    _engine: Engine
    _submitting: Submitting
    _tenant: str

    async def submit(self, request: LLMRequest, *, output_type: Output[T] | type[str] = str) -> Pending:
        """Store a request for a worker, whatever the provider's state.

        Raises:
            InvalidRequest: it could never be sent.
            ProviderError: its account waits for an operator.
            QueueError: it could not be stored; see `DurabilityUnknown`.
            ConfigurationError: the client has no queue.
            ClientClosed: the client is not open.
        """
        with self._engine.in_use():
            schema = output_type_of(cast("type[T]", output_type)).schema
            return await self._submitting.submit(self._tenant, require_request(request), schema)

    async def submit_many(
        self, requests: Sequence[LLMRequest], *, output_type: Output[T] | type[str] = str
    ) -> list[Pending | LLMGatewayError]:
        """Store many requests in one go.

        Returns:
            For each request, by index, its ticket or the error that refused it.

        Raises:
            InvalidRequest: *requests* is no list of them.
            ConfigurationError: the client has no queue.
            ClientClosed: the client is not open.
        """
        with self._engine.in_use():
            schema = output_type_of(cast("type[T]", output_type)).schema
            return await self._submitting.submit_many(self._tenant, requests, schema)

    async def status(self, ticket_id: str) -> TicketStatus:
        """Tell where a ticket stands.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
            QueueError: the queue does not answer.
        """
        with self._engine.in_use():
            return await self._submitting.status(self._tenant, require_ticket_id(ticket_id))

    @overload
    async def result(self, ticket_id: str, *, timeout: Duration = ...) -> Completed[str] | Pending: ...
    @overload
    async def result(
        self, ticket_id: str, *, output_type: Output[T], timeout: Duration = ...
    ) -> Completed[T] | Pending: ...
    async def result(
        self, ticket_id: str, *, output_type: Output[T] | type[str] = str, timeout: Duration = 0.0
    ) -> Completed[T] | Completed[str] | Pending:
        """Fetch what became of a ticket, waiting up to *timeout* (0: not at all) for its end.

        Raises:
            TicketFailed: it ended without an answer.
            TicketExpired: it waited longer than its ttl.
            TicketCancelled: it was cancelled.
            TicketNotFound: unknown, gone, or another tenant's.
            InvalidOutput: the answer is not valid for this output type.
            QueueError: the queue does not answer.
        """
        with self._engine.in_use():
            output = output_type_of(cast("type[T]", output_type))
            named = require_ticket_id(ticket_id)
            return await self._submitting.result(self._tenant, named, output, seconds_of(timeout, at_least=0.0))

    async def cancel(self, ticket_id: str) -> TicketStatus:
        """Cancel a ticket unless it has ended, and tell where it stands.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        with self._engine.in_use():
            return await self._submitting.cancel(self._tenant, require_ticket_id(ticket_id))

    async def cancel_group(self, group: str) -> int:
        """Cancel every ticket of *group* that has not ended, and return how many; `InvalidRequest` if it is no name."""
        with self._engine.in_use():
            return await self._submitting.cancel_group(self._tenant, require_name(group, "group"))

    async def requeue(self, ticket_id: str) -> Pending:
        """Store a failed request anew under a new ticket; asked again, it returns that ticket.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's; also when the new ticket was erased.
            QueueError: it has not failed, its request is no longer kept, or it could not be stored.
        """
        with self._engine.in_use():
            return await self._submitting.requeue(self._tenant, require_ticket_id(ticket_id))

    async def erase(
        self, *, ticket: str | None = None, subject: str | None = None, everything: bool = False
    ) -> ErasureReport:
        """Remove what is stored of a ticket, of all that name a subject, or of all; cancels first.

        ``everything=True`` drops the tenant's key too, without which no copy of what it sealed can be read.

        Raises:
            InvalidRequest: not exactly one was given, or no name.
            TicketNotFound: the ticket is unknown, gone, or another tenant's.
        """
        with self._engine.in_use():
            return await self._submitting.erase(self._tenant, ticket=ticket, subject=subject, everything=everything)

    def events(self, *, group: str | None = None, after: str | None = None) -> AsyncIterator[TicketEvent]:
        """Follow status changes, of one group or all, from now on or after an event's cursor; else `InvalidRequest`."""
        self._engine.require_open()
        return self._submitting.events(self._tenant, group=group, after=after)

    async def health(self) -> Health:
        """Tell how things stand, without asking any provider."""
        with self._engine.in_use():
            return await self._submitting.health()
