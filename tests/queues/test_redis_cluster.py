"""The queue in a cluster of Redis keeps the contract, also when a slot moves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from tests.queues.redis_bench import QUICK, namespace
from tests.queues.redis_cluster import RedisCluster

from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.redis.keys import Shards
from llm_gateway.queues.redis.routes import slot_of
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance._relaying import RelaySuite
from llm_gateway.testing.conformance._submitting import KeysSuite, RemovalSuite
from llm_gateway.testing.conformance._working import ClaimSuite, FinishSuite, RecoverySuite
from llm_gateway.testing.conformance.bench import Bench

SHARDED = QUICK.model_copy(update={"shards": 8})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Give a cluster."""
    found = RedisCluster(tmp_path_factory.mktemp("cluster")).start()
    yield found
    found.stop()


@pytest.mark.anyio
class TestCluster(KeysSuite, RemovalSuite, ClaimSuite, FinishSuite, RecoverySuite, RelaySuite):
    """The contract over the nodes of a cluster. Bounds, positions and fairness are each shard's own."""

    @pytest.fixture(autouse=True)
    def _server(self, cluster: RedisCluster) -> None:
        self.url = cluster.url

    async def make(self, options: QueueOptions) -> tuple[RedisQueue, FakeClock]:
        clock = FakeClock()
        return RedisQueue(self.url, options, namespace=namespace(), redis=SHARDED, strict=False, clock=clock), clock


async def test_shards_are_spread_over_the_nodes(cluster: RedisCluster) -> None:
    """Eight shards lie on more than one node."""
    shards = Shards("test", 8)
    owners = {cluster.owner(slot_of(shards.tag(shard))).port for shard in range(8)}
    assert len(owners) > 1


async def test_slot_that_moves_is_followed(cluster: RedisCluster) -> None:
    """A slot that moves to another node takes its jobs along, and whoever works on them finds them there."""
    name, clock = namespace(), FakeClock()
    one = QUICK.model_copy(update={"shards": 1})
    queue = RedisQueue(cluster.url, namespace=name, redis=one, strict=False, clock=clock)
    await queue.start(outbox=True)
    b = Bench(queue, clock, count(1))
    lease = await b.take()
    waiting = await b.put()
    slot = slot_of(Shards(name, 1).tag(0))
    source = cluster.owner(slot)
    target = next(node for node in cluster.nodes if node is not source)
    await cluster.move(slot, source, target)
    await b.complete(lease)
    (again,) = await b.claim(5)
    assert waiting.ticket_id == again.job.ticket_id
    await b.put()
    assert 2 == (await queue.stats()).depth
    await cluster.move(slot, target, source)
    await queue.aclose()
