"""The parts of a client, each behind a shield: a call ends in an outcome or an error of this library, whatever they do.

What merely takes note, as an observer or a cache does, costs nobody an answer. What an answer hangs on becomes an
error that names the part.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import Final, cast

from llm_gateway._core.freshness import FreshnessProfile
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import PreparedCall, ProviderAnswer
from llm_gateway._core.schema import OutputSchema
from llm_gateway._facts import Fault, Sent
from llm_gateway._shielding import Shield, awaited, kept, noted, required, told
from llm_gateway.errors import (
    ConfigurationError,
    DurabilityUnknown,
    ErrorInfo,
    LLMGatewayError,
    ModelMismatch,
    ProviderError,
    QueueUnavailable,
)
from llm_gateway.parts import Parts
from llm_gateway.protocols import (
    CircuitBreaker,
    Observer,
    PayloadCodec,
    Provider,
    QueueBackend,
    RateLimiter,
    ResponseCache,
)

__all__ = ["ShieldedCodec", "ShieldedProvider", "ShieldedQueue", "closed", "shielded"]

logger: Final = logging.getLogger("llm_gateway")
MEND: Final = "Mend or replace the part; llm_gateway.protocols says what it may raise."
AGAIN: Final = "It may have been carried out; ask again, and what was done is not done twice."
BROKEN: Final = ErrorInfo(fault=Fault.BROKEN_PART)

broken = partial(ConfigurationError, next_step=MEND, info=BROKEN)
unread = partial(QueueUnavailable, next_step=MEND)
unsure = partial(DurabilityUnknown, next_step=AGAIN)


def shielded(parts: Parts) -> Parts:
    """Return *parts* with those shielded that every call meets. A cache that holds nothing stays what it is."""
    return replace(
        parts,
        breaker=ShieldedBreaker(parts.breaker),
        limiter=ShieldedLimiter(parts.limiter),
        observer=ShieldedObserver(parts.observer),
        cache=ShieldedCache(parts.cache) if parts.replays else parts.cache,
    )


async def closed(part: Provider | QueueBackend) -> None:
    """Close a part; one that cannot be must neither keep the others open nor hide how the client's block ended."""
    try:
        await part.aclose()
    except LLMGatewayError as error:
        logger.warning("A part could not be closed: %s", error)


class ShieldedObserver(Shield[Observer], Observer):
    """An observer that changes no outcome."""

    observe = noted(Observer.observe)


class ShieldedCache(Shield[ResponseCache], ResponseCache):
    """A cache that has no entry when it raises, and costs nobody the answer it was to keep."""

    get = kept(ResponseCache.get)
    put = kept(ResponseCache.put)
    clear = awaited(ResponseCache.clear, broken)


class ShieldedLimiter(Shield[RateLimiter], RateLimiter):
    """A limiter that does not hide why it was told to hold back."""

    delay = required(RateLimiter.delay, broken)
    penalise = noted(RateLimiter.penalise)


class ShieldedBreaker(Shield[CircuitBreaker], CircuitBreaker):
    """A breaker that costs nobody the answer, and hides no error, that it is told of."""

    acquire = required(CircuitBreaker.acquire, broken)
    success = noted(CircuitBreaker.success)
    failure = noted(CircuitBreaker.failure)
    ignore = noted(CircuitBreaker.ignore)
    snapshot = required(CircuitBreaker.snapshot, broken)
    force_open = required(CircuitBreaker.force_open, broken)
    reset = required(CircuitBreaker.reset, broken)
    subscribe = required(CircuitBreaker.subscribe, broken)

    @property
    def probe_lease(self) -> float:
        """The breaker's."""
        return self.part.probe_lease


class ShieldedCodec(Shield[PayloadCodec], PayloadCodec):
    """A codec that raises is one that cannot be reached now: what waits for it goes on waiting."""

    seal = awaited(PayloadCodec.seal, unread)
    open = awaited(PayloadCodec.open, unread)
    digest = awaited(PayloadCodec.digest, unread)
    shred = awaited(PayloadCodec.shred, unsure)

    @property
    def sealed(self) -> bool:
        """The codec's."""
        return self.part.sealed


class ShieldedProvider(Shield[Provider], Provider):
    """A provider that prepares, answers and tells models apart, or raises a `ProviderError`."""

    aclose = awaited(Provider.aclose, broken)

    @property
    def name(self) -> str:
        """The provider's."""
        return self.part.name

    @property
    def endpoint(self) -> str:
        """The provider's."""
        return self.part.endpoint

    @property
    def key_id(self) -> str:
        """The provider's."""
        return self.part.key_id

    @property
    def freshness(self) -> FreshnessProfile:
        """The provider's."""
        return self.part.freshness

    def prepare(self, request: LLMRequest, schema: OutputSchema) -> PreparedCall:
        """Turn a request into bytes.

        Raises:
            InvalidRequest: it cannot be sent.
            ProviderError: the adapter raised something else, or returned something else.
        """
        try:
            prepared = cast("object", self.part.prepare(request, schema))
        except LLMGatewayError:
            raise
        except Exception as error:
            message = told(self.part, "prepare", error)
        else:
            if isinstance(prepared, PreparedCall):
                return prepared
            message = f"{type(self.part).__name__} prepared {type(prepared).__name__} instead of a PreparedCall."
        info = replace(BROKEN, provider=request.provider, model=request.model)
        raise ProviderError(message, next_step=MEND, info=info)

    async def send(self, call: PreparedCall, *, timeout: float) -> ProviderAnswer:
        """Make one attempt; what it raises is for the path of the call to judge.

        Raises:
            ProviderError: also when the adapter returned something that is no answer.
        """
        answer = cast("object", await self.part.send(call, timeout=timeout))
        if isinstance(answer, ProviderAnswer):
            return answer
        message = f"{type(self.part).__name__} sent back {type(answer).__name__} instead of a ProviderAnswer."
        raise ProviderError(message, next_step=MEND, info=ErrorInfo(fault=Fault.UNKNOWN, sent=Sent.YES))

    def serves(self, call: PreparedCall, served_model: str) -> bool:
        """Whether *served_model* counts as the model that was asked for.

        Raises:
            ModelMismatch: the adapter raised something, so nobody knows.
        """
        try:
            return self.part.serves(call, served_model)
        except LLMGatewayError:
            raise
        except Exception as error:
            message = told(self.part, "serves", error)
        raise ModelMismatch(message, next_step=MEND, info=ErrorInfo(fault=Fault.MODEL_MISMATCH, sent=Sent.YES))


class ShieldedQueue(Shield[QueueBackend], QueueBackend):
    """A queue that cannot be reached when it raises and can have changed nothing; else nobody knows what it did."""

    mint = required(QueueBackend.mint, unread)
    # These keep the step of the error's class, which is to submit again under the same key.
    enqueue = awaited(QueueBackend.enqueue, DurabilityUnknown)
    enqueue_many = awaited(QueueBackend.enqueue_many, DurabilityUnknown)
    find = awaited(QueueBackend.find, unread)
    get = awaited(QueueBackend.get, unread)
    result = awaited(QueueBackend.result, unread)
    cancel = awaited(QueueBackend.cancel, unsure)
    cancel_group = awaited(QueueBackend.cancel_group, unsure)
    erase = awaited(QueueBackend.erase, unsure)

    lanes = awaited(QueueBackend.lanes, unread)
    claim = awaited(QueueBackend.claim, unsure)
    extend = awaited(QueueBackend.extend, unsure)
    finish = awaited(QueueBackend.finish, unsure)
    sweep = awaited(QueueBackend.sweep, unsure)
    heartbeat = awaited(QueueBackend.heartbeat, unsure)
    set_gate = awaited(QueueBackend.set_gate, unsure)
    unpark = awaited(QueueBackend.unpark, unsure)
    pin = awaited(QueueBackend.pin, unsure)
    wait_ready = awaited(QueueBackend.wait_ready, unread)

    lead = awaited(QueueBackend.lead, unsure)
    yield_lead = awaited(QueueBackend.yield_lead, unsure)
    unrelayed = awaited(QueueBackend.unrelayed, unread)
    relayed = awaited(QueueBackend.relayed, unsure)
    close_outbox = awaited(QueueBackend.close_outbox, unsure)
    wait_unrelayed = awaited(QueueBackend.wait_unrelayed, unread)

    wait = awaited(QueueBackend.wait, unread)
    ended = awaited(QueueBackend.ended, unread)
    events = awaited(QueueBackend.events, unread)

    stats = awaited(QueueBackend.stats, unread)
    list_jobs = awaited(QueueBackend.list_jobs, unread)
    pause = awaited(QueueBackend.pause, unsure)
    resume = awaited(QueueBackend.resume, unsure)
    limit = awaited(QueueBackend.limit, unsure)
    payload = awaited(QueueBackend.payload, unread)

    tenant_key = awaited(QueueBackend.tenant_key, unread)
    keep_tenant_key = awaited(QueueBackend.keep_tenant_key, unsure)
    drop_tenant_key = awaited(QueueBackend.drop_tenant_key, unsure)

    start = awaited(QueueBackend.start, unread)
    aclose = awaited(QueueBackend.aclose, unread)

    @property
    def durable(self) -> bool:
        """The backend's."""
        return self.part.durable

    @property
    def outbox_shards(self) -> int:
        """The backend's."""
        return self.part.outbox_shards
