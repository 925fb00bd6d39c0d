"""What the client and its workers share: providers, the path of a call, latches, and the mirror of the circuits."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from llm_gateway._background import Background
from llm_gateway._callers import Callers
from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitState
from llm_gateway._core.environments import Environment
from llm_gateway._core.fingerprint import cache_key
from llm_gateway._core.freshness import SeenIds
from llm_gateway._core.jobs import Lane, LaneStats
from llm_gateway._core.latch import Latches
from llm_gateway._core.observations import Observation, ObservationKind
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._core.payloads import StoredResult, read_result, write_echo
from llm_gateway._core.receipts import receipt_of
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import Receipt
from llm_gateway._core.schema import OutputSchema
from llm_gateway._null import NullSink
from llm_gateway._pinning import Pins
from llm_gateway._pipeline import Admitting, Answer, Call, Guarding, Layer, Sending, latched
from llm_gateway._retrying import Retrying
from llm_gateway._shields import ShieldedProvider, ShieldedQueue, closed, shielded
from llm_gateway.errors import (
    ClientClosed,
    ConfigurationError,
    InvalidRequest,
    LLMGatewayError,
    PayloadTooLarge,
    QueueError,
)
from llm_gateway.parts import Parts, refuse_forbidden, require_fitting
from llm_gateway.protocols import Provider, QueueBackend

__all__ = ["HEARTBEAT_FRESH", "Engine"]

logger: Final = logging.getLogger("llm_gateway")
SETTLING_SECONDS: Final = 5.0
MOST_LANES: Final = 1_024
MIRROR_PAUSE: Final = 1.0
VENDORS: Final = frozenset({"anthropic", "openai"})
HEARTBEAT_FRESH: Final = timedelta(seconds=10)


class Engine:
    """Carries out calls. One for each client; bound to the event loop and process it was opened in."""

    def __init__(
        self, providers: Sequence[Provider], queue: QueueBackend | None, parts: Parts, environment: Environment
    ) -> None:
        refuse_forbidden(environment, providers, queue, parts)
        require_fitting(parts)
        self.environment = environment
        self.providers: Mapping[str, Provider] = MappingProxyType(_by_name(providers))
        self.queue_name = None if queue is None else type(queue).__name__
        self.queue = None if queue is None else ShieldedQueue(queue)
        self.parts = shielded(parts)
        self.latches = Latches()
        self.pins = Pins(self.queue, parts.clock)
        self.callers = Callers()
        self.followers = Callers()
        self.adopted = Background()
        self.settlements = Background()
        self._background = Background()
        self._farewells: list[Callable[[], Awaitable[None]]] = []
        self._once, self._live = self._paths()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._asked: dict[Lane, None] = {}
        self._mended: set[tuple[str, str]] = set()
        self._keeps_receipts = not isinstance(parts.sink, NullSink)
        self._closed = False
        self._ended = False
        self._circuits_changed = asyncio.Event()
        self.parts.breaker.subscribe(self._on_change)

    async def start(self) -> bool:
        """Open the queue and begin to mirror the circuits into it; False when that was done before."""
        if self._closed:
            message = "This client is closed."
            raise ClientClosed(message, next_step="Make a new client.")
        if self._loop is not None:
            self.require_open()
            return False
        if self.queue is not None:
            await self.queue.start(outbox=self.parts.publisher is not None)
            self.keep_running(self._mirror(self.queue), "circuit mirror")
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        return True

    async def aclose(self) -> None:
        """Let calls end, or hand them to the queue, end background work, then close the parts."""
        self._closed = True
        # Closing that was cancelled is taken up again by the next call.
        if self._ended:
            return
        until = asyncio.get_running_loop().time() + self.parts.worker.drain_timeout
        # Whoever only follows a ticket can do so with another client.
        self.followers.send_away()
        await self.callers.gone(self.parts.worker.drain_timeout)
        self.callers.send_away()
        await self.callers.gone(SETTLING_SECONDS)
        # Calls that tickets have adopted get what is left of the one drain timeout.
        await self.adopted.settled(max(until - asyncio.get_running_loop().time(), 0.0))
        await self.adopted.aclose()
        await self.settlements.settled(SETTLING_SECONDS)
        await self.settlements.aclose()
        await self._background.aclose()
        for farewell in self._farewells:
            await farewell()
        for provider in self.providers.values():
            await closed(provider)
        if self.queue is not None:
            await closed(self.queue)
        self._ended = True

    def keep_running(
        self,
        work: Coroutine[object, object, None],
        name: str,
        *,
        farewell: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Run *work* until the client closes, then *farewell*."""
        self._background.start(work, name)
        if farewell is not None:
            self._farewells.append(farewell)

    def require_open(self) -> None:
        """Refuse use before opening, after closing, in another event loop, and in a forked child.

        Raises:
            ClientClosed: it is not open.
            ConfigurationError: it belongs to another event loop or process.
        """
        if self._closed or self._loop is None:
            message = "The client is closed." if self._closed else "The client is not open yet."
            raise ClientClosed(message)
        if self._pid != os.getpid():
            message = "This client was opened before a fork."
            raise ConfigurationError(message, next_step="Open a client in each process, after forking.")
        if self._loop is not _running_loop():
            message = "This client was opened in another event loop."
            raise ConfigurationError(message, next_step="Open a client in each event loop.")

    def in_use(self) -> Callers:
        """Count a caller in while a block runs, so that closing waits for it; refuses as `require_open` does."""
        self.require_open()
        return self.callers

    def prepare(self, request: LLMRequest, schema: OutputSchema, *, deadline: float, live: bool = True) -> Call:
        """Turn a request into a call, without I/O.

        Raises:
            InvalidRequest: the provider is unknown, or cannot express the request.
            PayloadTooLarge: the body exceeds the limit.
        """
        provider = self.providers.get(request.provider)
        if provider is None:
            known = ", ".join(sorted(self.providers)) or "none"
            message = f"No provider is configured under the name {request.provider!r}."
            how = f" (LLM_GATEWAY_{request.provider.upper()}_API_KEY)" if request.provider in VENDORS else ""
            raise InvalidRequest(message, next_step=f"Configure it{how}, or use one of: {known}.")
        prepared = provider.prepare(request, schema)
        size = len(prepared.body) + (len(write_echo(request)) if request.metadata or request.trace_context else 0)
        if size > self.parts.queue.max_payload_bytes:
            message = f"The request is {size} bytes; {self.parts.queue.max_payload_bytes} are allowed."
            raise PayloadTooLarge(message)
        key = CircuitKey(prepared.endpoint, Lane(request.provider, request.model))
        if len(self._asked) < MOST_LANES:
            self._asked[key.lane] = None
        return Call(
            request=request,
            schema=schema,
            prepared=prepared,
            provider=provider,
            key=key,
            deadline=deadline,
            live=live,
        )

    async def live(self, call: Call, timeout: float) -> StoredResult:
        """Carry out a live call: retries and all. If it is replayable, a development cache may answer it.

        Raises:
            LLMGatewayError: with ``call.decision`` saying whether a queue should take it.
        """
        # Without a cache nobody would read the key or the written result.
        if not call.replayable or self.environment.strict or not self.parts.replays:
            return await self._result(self._live, call, timeout)
        entry = await self.parts.cache.get(cache_key(call.prepared, call.request.sample))
        replayed = None if entry is None else _replayed(entry)
        return await self._result(self._live, call, timeout) if replayed is None else replayed

    async def remember(self, call: Call, result: StoredResult) -> None:
        """Let a development cache keep a live answer that has been found valid."""
        if self.environment.strict or not self.parts.replays:
            return
        asked = replace(call.prepared, fresh_token=None)
        await self.parts.cache.put(cache_key(asked, call.request.sample), result.write())

    async def once(self, call: Call, timeout: float) -> StoredResult:
        """Carry out one attempt, as a worker does."""
        return await self._result(self._once, call, timeout)

    @property
    def asked_lanes(self) -> Sequence[Lane]:
        """The lanes this client has asked, the first `MOST_LANES` of them."""
        return tuple(self._asked)

    def key_of(self, lane: Lane) -> CircuitKey | None:
        """Return the circuits a lane's calls pass here; ``None`` when its provider is not configured here."""
        provider = self.providers.get(lane.provider)
        return CircuitKey(provider.endpoint, lane) if provider is not None else None

    def require_account(self, call: Call) -> None:
        """Refuse a call whose account is latched.

        Raises:
            ProviderError: the error that latched it.
        """
        now = self.parts.clock.monotonic()
        if error := self.latches.refusal(call.account, now):
            raise latched(call, error, self.latches.canary_in(call.account, now))

    async def show_receipt(self, receipt: Receipt, patience: float) -> None:
        """Hand a receipt to the sink, and wait up to *patience* seconds until it is written; it is written anyway."""
        if self._keeps_receipts:
            writing = self.settlements.start(self.keep_receipt(receipt), "receipt")
            await asyncio.wait({writing}, timeout=patience)

    async def keep_receipt(self, receipt: Receipt) -> None:
        """Hand a receipt to the sink; a sink that fails costs nobody their answer."""
        try:
            await self.parts.sink.write(receipt)
        except Exception as error:
            logger.warning("A receipt could not be kept (%s)", type(error).__name__)

    def observe_call(self, call: Call, outcome: str, error: LLMGatewayError | None = None) -> None:
        """Tell the observer how a call ended."""
        self.parts.observer.observe(
            Observation(
                kind=ObservationKind.CALL,
                provider=call.prepared.provider,
                model=call.prepared.model,
                outcome=outcome,
                fault=error.fault if error is not None else None,
            )
        )

    async def _result(self, path: Layer, call: Call, timeout: float) -> StoredResult:
        answer: Answer = await path(call, timeout)
        receipt = receipt_of(call.request, call.prepared, answer.reply, attempts=call.history, signals=answer.signals)
        return StoredResult(text=answer.reply.text, receipt=receipt)

    def _paths(self) -> tuple[Layer, Layer]:
        parts = self.parts
        sending = Sending(parts.clock, parts.observer, parts.http.attempt_timeout)
        guarding = Guarding(sending, SeenIds(), parts.observer, strict=self.environment.strict)
        admitting = Admitting(
            guarding,
            parts.breaker,
            parts.limiter,
            self.latches,
            clock=parts.clock,
            observer=parts.observer,
            yields=self._has_probe_job,
            mended=self.on_mended,
        )
        retrying = Retrying(
            admitting, parts.retry, clock=parts.clock, random=parts.random, queue=self.queue is not None
        )
        return admitting, retrying

    async def _has_probe_job(self, key: CircuitKey) -> bool:
        """Whether a queued job of this lane, with a worker standing by, can be the probe."""
        if self.queue is None:
            return False
        since = self.parts.clock.now() - HEARTBEAT_FRESH
        try:
            lanes = await self.queue.lanes()
        except QueueError:
            # A queue that is out too must not keep a provider that is back from being asked.
            return False
        return any(
            lane.lane == key.lane
            and lane.ready > 0
            and not lane.gate.paused
            and lane.gate.parked is None
            and lane.last_heartbeat_at is not None
            and lane.last_heartbeat_at >= since
            for lane in lanes
        )

    def _on_change(self, change: CircuitChange) -> None:
        where = change.lane if change.lane is not None else change.endpoint
        logger.warning("The circuit of %s went from %s to %s", where, change.old.value, change.new.value)
        lane = change.lane or Lane("", change.endpoint)
        self.parts.observer.observe(
            Observation(
                kind=ObservationKind.CIRCUIT, provider=lane.provider, model=lane.model, outcome=change.new.value
            )
        )
        self._circuits_changed.set()

    async def _mirror(self, queue: QueueBackend) -> None:
        # Level-triggered: whatever happened in between, the gates end up as the circuits are now.
        while True:
            await self._circuits_changed.wait()
            self._circuits_changed.clear()
            # Taken out: an account that breaks again must not be un-parked for having been mended once.
            mended, self._mended = self._mended, set()
            try:
                for stats in await queue.lanes():
                    await self.mirror_lane(queue, stats.lane)
                    if self.account_of(stats.lane) in mended:
                        await self._unpark(queue, stats)
            except Exception as error:
                # Backends are foreign code; a mirror that dies would leave gates as they were.
                logger.warning("The circuits could not be mirrored (%s); trying again", type(error).__name__)
                self._mended |= mended
                self._circuits_changed.set()
                await self.parts.clock.sleep(MIRROR_PAUSE)

    async def _unpark(self, queue: QueueBackend, stats: LaneStats) -> None:
        """Let a lane go on that waits for its account; one that an operator paused stays so."""
        latched = self.latches.latched(self.account_of(stats.lane))
        if stats.gate.parked == WaitReason.NEEDS_OPERATOR and not stats.gate.paused and not latched:
            await queue.unpark(stats.lane, WaitReason.NEEDS_OPERATOR)

    def account_of(self, lane: Lane) -> tuple[str, str]:
        """Whose key a lane's calls use here; empty when its provider is not configured here."""
        provider = self.providers.get(lane.provider)
        return (provider.endpoint, provider.key_id) if provider is not None else ("", "")

    def on_mended(self, account: tuple[str, str]) -> None:
        """Take note that an account works again, and let its lanes go on."""
        self._mended.add(account)
        self._circuits_changed.set()

    def mirror_outage(self, lane: Lane) -> None:
        """Give a lane that may be new to the queue the state its circuits have here, in the background."""
        key = self.key_of(lane)
        # The request is stored by now, so a breaker that cannot tell must not hide its ticket.
        with suppress(ConfigurationError):
            if key is not None and self.parts.breaker.snapshot(key).state is not CircuitState.CLOSED:
                self._circuits_changed.set()

    async def mirror_lane(self, queue: QueueBackend, lane: Lane) -> None:
        """Copy the state of a lane's circuits into its gate."""
        key = self.key_of(lane)
        if key is None:
            return
        snapshot = self.parts.breaker.snapshot(key)
        opened = snapshot.state is CircuitState.OPEN
        not_before = self.parts.clock.now() + timedelta(seconds=snapshot.retry_in) if opened else None
        await queue.set_gate(lane, circuit=snapshot.state.value, not_before=not_before)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # a plain thread
        return None


def _by_name(providers: Sequence[Provider]) -> dict[str, Provider]:
    by_name: dict[str, Provider] = {provider.name: ShieldedProvider(provider) for provider in providers}
    if len(by_name) < len(providers):
        message = "Two providers have the same name."
        raise ConfigurationError(message, next_step="Give each provider a name of its own.")
    return by_name


def _replayed(entry: bytes) -> StoredResult | None:
    try:
        result = read_result(entry)
    except QueueError:
        logger.warning("An entry of the cache cannot be read; it counts as missing")
        return None
    return replace(result, receipt=replace(result.receipt, source="dev_cache"))
