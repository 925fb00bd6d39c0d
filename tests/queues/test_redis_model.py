"""The queue in Redis agrees with the model."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant
from tests.queues.redis_audit import audit
from tests.queues.redis_bench import QUICK, command, namespace
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
        await command(server().url, ("FLUSHDB",))
        self.name, self.options, self.time = namespace(), options, FakeClock()
        queue = RedisQueue(server().url, options, namespace=self.name, redis=QUICK, strict=False, clock=self.time)
        return queue, self.time

    @invariant()
    def adds_up(self) -> None:
        """What the scripts have counted is what there is."""
        assert [] == audit(server().url, self.name, self.options, self.time)


TestRedisModel = RedisMachine.TestCase
TestRedisModel.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
