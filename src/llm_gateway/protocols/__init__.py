"""The contract: every part a consumer may replace, in two pages: `parts`, and the `queue`.

A part declares where it may run (``allowed_in``). Waits in these protocols are unbounded: the caller bounds them.
"""

from __future__ import annotations

from llm_gateway.protocols.parts import (
    CircuitBreaker,
    Clock,
    EventPublisher,
    Observer,
    Part,
    PayloadCodec,
    Provider,
    RateLimiter,
    ReceiptSink,
    ResponseCache,
)
from llm_gateway.protocols.queue import JobStore, KeyStore, Outbox, QueueAdmin, QueueBackend, Watch, WorkSource

__all__ = [
    "CircuitBreaker",
    "Clock",
    "EventPublisher",
    "JobStore",
    "KeyStore",
    "Observer",
    "Outbox",
    "Part",
    "PayloadCodec",
    "Provider",
    "QueueAdmin",
    "QueueBackend",
    "RateLimiter",
    "ReceiptSink",
    "ResponseCache",
    "Watch",
    "WorkSource",
]
