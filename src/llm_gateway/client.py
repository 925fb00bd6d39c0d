"""The client: ask now, submit for later, and follow what was submitted."""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Final, Literal, Self, TypeVar, cast, overload

from llm_gateway._asking import Asking, Question, desk_of
from llm_gateway._callers import Patience
from llm_gateway._core.given import (
    require_choice,
    require_name,
    require_request,
    require_whole,
    seconds_of,
)
from llm_gateway._core.outcomes import Completed, Item, Pending, TicketEvent
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.schema import output_type_of
from llm_gateway._engine import Engine
from llm_gateway._mapping import Plan, Progress, mapped
from llm_gateway._misfits import fitting_parts
from llm_gateway._process import environment_of_process
from llm_gateway._submitting import Submitting
from llm_gateway._ticket_calls import Duration, Output, TicketCalls
from llm_gateway.errors import ConfigurationError
from llm_gateway.parts import Parts
from llm_gateway.protocols import Provider, QueueBackend
from llm_gateway.settings import Settings, settings_of_process
from llm_gateway.worker import Worker

__all__ = ["LLMClient"]

T = TypeVar("T")
DEFAULT_TIMEOUT: Final = 120.0
WHEN_UNAVAILABLE: Final = ("queue", "raise")


class LLMClient(TicketCalls):
    """Asks language models so that every call ends in a fresh result, a durable ticket or a typed error.

    Open it with ``async with``; it belongs to the event loop and process it was opened in.

    Args:
        providers: Who can be asked, each under its own name.
        queue: Where requests wait out an outage; ``None`` makes an outage an error.
        parts: Everything else; see `Parts`.
        on_event: Called with every status change of every ticket, at least once and in order; its return
            acknowledges. Takes the place of ``parts.publisher``.

    Raises:
        ConfigurationError: an argument is no part, the environment forbids one, or two providers share a name.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        queue: QueueBackend | None = None,
        parts: Parts | None = None,
        *,
        on_event: Callable[[TicketEvent], Awaitable[None] | None] | None = None,
    ) -> None:
        chosen = fitting_parts(providers, queue, parts, on_event)
        if on_event is not None:
            from llm_gateway.wiring import publish_to

            chosen = replace(chosen, publisher=publish_to(on_event))
        self._engine = Engine(providers, queue, chosen, environment_of_process(given=chosen.environment))
        self._desk = desk_of(self._engine, self._engine.queue)
        self._asking = Asking(self._engine, self._desk)
        self._submitting = Submitting(self._engine, self._desk)
        self._tenant = ""

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        on_event: Callable[[TicketEvent], Awaitable[None] | None] | None = None,
    ) -> Self:
        """Build a client from *settings*, or from the environment; `ConfigurationError` names what is missing."""
        from llm_gateway.wiring import wire

        wired = wire(settings if settings is not None else settings_of_process())
        return cls(wired.providers, wired.queue, wired.parts, on_event=on_event)

    def for_tenant(self, tenant: str) -> Self:
        """Return a view that sees and makes only *tenant*'s tickets: 1 to 255 characters, else `InvalidRequest`."""
        scoped = copy.copy(self)
        vars(scoped)["_tenant"] = require_name(tenant, "tenant")
        return scoped

    async def __aenter__(self) -> Self:
        opened = await self._engine.start()
        publisher = self._engine.parts.publisher
        if opened and self._desk is not None and publisher is not None:
            # Loaded only where it is used: a first answer need not wait for it.
            from llm_gateway.relay import Relay

            Relay(self._engine, self._desk.queue, self._desk.tickets, publisher).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let calls that tickets adopted end (up to the drain timeout) or go back, then close everything."""
        await self._engine.aclose()

    @overload
    async def complete(
        self,
        request: LLMRequest,
        *,
        timeout: Duration = ...,
        when_unavailable: Literal["queue"] = ...,
        output_retries: int = ...,
    ) -> Completed[str] | Pending: ...
    @overload
    async def complete(
        self,
        request: LLMRequest,
        *,
        timeout: Duration = ...,
        when_unavailable: Literal["raise"],
        output_retries: int = ...,
    ) -> Completed[str]: ...
    @overload
    async def complete(
        self,
        request: LLMRequest,
        *,
        output_type: Output[T],
        timeout: Duration = ...,
        when_unavailable: Literal["queue"] = ...,
        output_retries: int = ...,
    ) -> Completed[T] | Pending: ...
    @overload
    async def complete(
        self,
        request: LLMRequest,
        *,
        output_type: Output[T],
        timeout: Duration = ...,
        when_unavailable: Literal["raise"],
        output_retries: int = ...,
    ) -> Completed[T]: ...
    async def complete(
        self,
        request: LLMRequest,
        *,
        output_type: Output[T] | type[str] = str,
        timeout: Duration = DEFAULT_TIMEOUT,
        when_unavailable: Literal["queue", "raise"] = "queue",
        output_retries: int = 0,
    ) -> Completed[T] | Completed[str] | Pending:
        """Ask now.

        When the provider is out, or the timeout passes, the request is stored and its ticket returned; a try that
        is still running then becomes the ticket's first attempt, so that nothing is paid for twice.

        Args:
            request: What to ask. With an idempotency key, its ticket is looked up first.
            output_type: What the answer must be: anything pydantic can validate.
            timeout: Seconds, or a ``timedelta``, that the caller waits.
            when_unavailable: ``"raise"`` makes an outage an error although there is a queue.
            output_retries: How often an invalid answer is asked for again.

        Raises:
            InvalidRequest: it cannot be sent as it is; also `UnsupportedParameter`, `UnsupportedSchema`,
                `ContextTooLong`, `PayloadTooLarge`.
            ProviderError: what time cannot heal, such as `AuthenticationFailed`, `QuotaExhausted`,
                `ModelNotFound`, `ModelMismatch`; without a queue also `ProviderUnavailable` and kin.
            InvalidOutput: the answer is not valid for the output type.
            StaleResponse: a cache on the way answered, twice.
            DeadlineExceeded: the timeout passed and there is no queue.
            QueueError: the request could not be stored, or its group's model not be compared.
            TicketError: the ticket of this idempotency key ended without a result.
            ClientClosed: the client is not open.
        """
        with self._engine.in_use():
            output = output_type_of(cast("type[T]", output_type))
            question = Question(
                tenant=self._tenant,
                request=require_request(request),
                output_type=output,
                patience=Patience(self._engine.parts.clock, seconds_of(timeout)),
                queueing=require_choice(when_unavailable, "when_unavailable", WHEN_UNAVAILABLE) == "queue",
                output_retries=require_whole(output_retries, "output_retries", at_least=0),
            )
            return await self._asking.ask(question)

    @overload
    def map(
        self,
        requests: Iterable[LLMRequest],
        *,
        samples: int = ...,
        concurrency: int = ...,
        timeout: Duration = ...,
        when_unavailable: Literal["queue", "raise"] = ...,
        output_retries: int = ...,
        progress: Progress | None = ...,
    ) -> AsyncIterator[Item[str]]: ...
    @overload
    def map(
        self,
        requests: Iterable[LLMRequest],
        *,
        output_type: Output[T],
        samples: int = ...,
        concurrency: int = ...,
        timeout: Duration = ...,
        when_unavailable: Literal["queue", "raise"] = ...,
        output_retries: int = ...,
        progress: Progress | None = ...,
    ) -> AsyncIterator[Item[T]]: ...
    def map(
        self,
        requests: Iterable[LLMRequest],
        *,
        output_type: Output[T] | type[str] = str,
        samples: int = 1,
        concurrency: int = 16,
        timeout: Duration = DEFAULT_TIMEOUT,
        when_unavailable: Literal["queue", "raise"] = "queue",
        output_retries: int = 0,
        progress: Progress | None = None,
    ) -> AsyncIterator[Item[T]] | AsyncIterator[Item[str]]:
        """Ask many requests, outcomes as they come; an error is an outcome and stops nobody else.

        Args:
            requests: What to ask.
            output_type: What each answer must be.
            samples: How many independent draws of each request.
            concurrency: How many are asked at once.
            timeout: Seconds for each.
            when_unavailable: ``"raise"`` makes an outage an error although there is a queue: asked again, a request
                without an idempotency key would get a second ticket.
            output_retries: How often an invalid answer is asked for again, for each.
            progress: Called with how many are done and, where *requests* has a length, of how many.

        Raises:
            InvalidRequest: *requests* are none, or another argument cannot be used.
            UnsupportedSchema: no answer can be checked against *output_type*.
            ClientClosed: the client is not open.
        """
        self._engine.require_open()
        seconds_of(timeout)
        output_type_of(cast("type[T]", output_type))
        queueing = require_choice(when_unavailable, "when_unavailable", WHEN_UNAVAILABLE) == "queue"
        retries = require_whole(output_retries, "output_retries", at_least=0)

        async def ask(request: LLMRequest) -> Completed[T] | Pending:
            chosen = cast("type[T]", output_type)
            if queueing:
                return await self.complete(request, output_type=chosen, timeout=timeout, output_retries=retries)
            return await self.complete(
                request, output_type=chosen, timeout=timeout, when_unavailable="raise", output_retries=retries
            )

        return mapped(ask, Plan(requests, samples=samples, concurrency=concurrency, progress=progress))

    @asynccontextmanager
    async def worker(
        self, *, concurrency: int | None = None, drain_timeout: Duration | None = None
    ) -> AsyncGenerator[Worker]:
        """Drain the queue in this process while the block runs.

        On leaving, nothing more is claimed, running requests get *drain_timeout* seconds, and what is not done
        goes back to the queue.

        Args:
            concurrency: Requests worked on at once; the default is the worker options'.
            drain_timeout: Seconds, or a ``timedelta``; the default is the worker options'.

        Raises:
            ConfigurationError: the client has no queue, or an option is out of range.
            ClientClosed: the client is not open.
        """
        self._engine.require_open()
        if self._desk is None:
            message = "This client has no queue to drain."
            raise ConfigurationError(message, next_step="Configure a queue.")
        options = self._engine.parts.worker.changed(
            concurrency=concurrency,
            drain_timeout=None if drain_timeout is None else seconds_of(drain_timeout, at_least=0.0),
        )
        async with Worker(self._engine, self._desk.queue, self._desk.tickets, options).at_work() as worker:
            yield worker
