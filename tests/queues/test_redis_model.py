"""The queue in Redis agrees with the model."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import HealthCheck, settings
from tests.queues.redis_bench import QUICK, namespace
from tests.queues.redis_server import BINARIES, RedisServer

from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.model import QueueMachine


@cache
def server() -> RedisServer:
    """Start a server for all examples: a state machine takes no fixtures."""
    started = RedisServer(Path(mkdtemp()), BINARIES[0]).start()
    atexit.register(started.stop)
    return started


class RedisMachine(QueueMachine):
    """The model on the queue in Redis."""

    async def make(self, options: QueueOptions) -> tuple[RedisQueue, FakeClock]:
        clock = FakeClock()
        queue = RedisQueue(server().url, options, namespace=namespace(), redis=QUICK, strict=False, clock=clock)
        return queue, clock


TestRedisModel = RedisMachine.TestCase
TestRedisModel.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
