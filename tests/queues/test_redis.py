"""The queue in Redis keeps the contract, on every server there is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from tests.queues.redis_audit import audit
from tests.queues.redis_bench import QUICK, command, namespace
from tests.queues.redis_server import RedisServer

from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance._relaying import RelaySuite
from llm_gateway.testing.conformance._sealing import DeadLetterSuite, ErasureSuite, KeyStoreSuite
from llm_gateway.testing.conformance._submitting import KeysSuite, RemovalSuite
from llm_gateway.testing.conformance._watching import WatchSuite
from llm_gateway.testing.conformance._working import ClaimSuite, FinishSuite, RecoverySuite
from llm_gateway.testing.conformance.bench import Bench, QueueSuite
from llm_gateway.testing.conformance.queue import QueueConformance


class Audited(QueueSuite):
    """Ends every test with an audit of what it has left in Redis."""

    url: str
    shards = 1

    async def make(self, options: QueueOptions) -> tuple[RedisQueue, FakeClock]:
        await command(self.url, ("FLUSHDB",))  # so that there is no more to read than what this test leaves
        clock, redis = FakeClock(), QUICK.model_copy(update={"shards": self.shards})
        self.name, self.options = namespace(), options
        return RedisQueue(self.url, options, namespace=self.name, redis=redis, strict=False, clock=clock), clock

    @asynccontextmanager
    async def bench(self, options: QueueOptions | None = None, *, outbox: bool = True) -> AsyncGenerator[Bench]:
        async with super().bench(options, outbox=outbox) as b:
            name, chosen = self.name, self.options
            yield b
            assert [] == audit(self.url, name, chosen, b.clock, shards=self.shards)


@pytest.mark.anyio
class TestShards(
    Audited,
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

    shards = 4

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.url = redis.url


class TestRedisQueue(Audited, QueueConformance):
    """The suite on the queue in Redis."""

    @pytest.fixture(autouse=True)
    def _server(self, every_redis: RedisServer) -> None:
        self.url = every_redis.url
