"""The suite that every queue backend must pass. It speaks only the protocol.

::

    class TestMyQueue(QueueConformance):
        async def make(self, options):
            clock = FakeClock()
            return MyQueue(options, clock=clock), clock
"""

from __future__ import annotations

import pytest

from llm_gateway.testing.conformance._relaying import RelaySuite
from llm_gateway.testing.conformance._sealing import DeadLetterSuite, ErasureSuite, KeyStoreSuite
from llm_gateway.testing.conformance._submitting import BoundsSuite, KeysSuite, RemovalSuite
from llm_gateway.testing.conformance._waiting import WaitingSuite
from llm_gateway.testing.conformance._watching import AdminSuite, FairnessSuite, WatchSuite
from llm_gateway.testing.conformance._working import ClaimSuite, FinishSuite, RecoverySuite

__all__ = ["QueueConformance"]


@pytest.mark.anyio
class QueueConformance(
    KeysSuite,
    BoundsSuite,
    RemovalSuite,
    ClaimSuite,
    FinishSuite,
    RecoverySuite,
    WaitingSuite,
    WatchSuite,
    RelaySuite,
    FairnessSuite,
    AdminSuite,
    DeadLetterSuite,
    ErasureSuite,
    KeyStoreSuite,
):
    """The contract of the durable queue as tests. A subclass named ``Test…`` supplies `make`."""
