"""The queue in Redis keeps the contract, on every server there is."""

from __future__ import annotations

import pytest
from tests.queues.redis_bench import QUICK, namespace
from tests.queues.redis_server import RedisServer

from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance._relaying import RelaySuite
from llm_gateway.testing.conformance._sealing import DeadLetterSuite, ErasureSuite, KeyStoreSuite
from llm_gateway.testing.conformance._submitting import KeysSuite, RemovalSuite
from llm_gateway.testing.conformance._watching import WatchSuite
from llm_gateway.testing.conformance._working import ClaimSuite, FinishSuite, RecoverySuite
from llm_gateway.testing.conformance.queue import QueueConformance


@pytest.mark.anyio
class TestShards(
    KeysSuite,
    RemovalSuite,
    ClaimSuite,
    FinishSuite,
    RecoverySuite,
    WatchSuite,
    RelaySuite,
    DeadLetterSuite,
    ErasureSuite,
    KeyStoreSuite,
):
    """What holds of four shards together. Bounds, positions and fairness are each shard's own."""

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.url = redis.url

    async def make(self, options: QueueOptions) -> tuple[RedisQueue, FakeClock]:
        clock, four = FakeClock(), QUICK.model_copy(update={"shards": 4})
        return RedisQueue(self.url, options, namespace=namespace(), redis=four, strict=False, clock=clock), clock


class TestRedisQueue(QueueConformance):
    """The suite on the queue in Redis."""

    @pytest.fixture(autouse=True)
    def _server(self, every_redis: RedisServer) -> None:
        self.url = every_redis.url

    async def make(self, options: QueueOptions) -> tuple[RedisQueue, FakeClock]:
        clock = FakeClock()
        return RedisQueue(self.url, options, namespace=namespace(), redis=QUICK, strict=False, clock=clock), clock
