"""A real cluster of three primaries on the loopback."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.queues.redis_bench import command
from tests.queues.redis_server import BINARIES, RedisServer

from llm_gateway._io.redis import Command
from llm_gateway.queues.redis.rows import items, raw, text

__all__ = ["RedisCluster"]

SLOTS: Final = 16_384
BUS: Final = 10_000
UP_SECONDS: Final = 30.0
NODES: Final = 3


class RedisCluster:
    """Three nodes that share the slots.

    Args:
        folder: Where their files lie.
    """

    def __init__(self, folder: Path) -> None:
        config = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        self.nodes = [
            RedisServer(folder / f"{number}", BINARIES[0], *config, port=port_with_bus()) for number in range(NODES)
        ]

    @property
    def url(self) -> str:
        """Where the first node is, as one of a cluster."""
        return self.nodes[0].url.replace("redis://", "redis+cluster://")

    def start(self) -> RedisCluster:
        """Start the nodes, let them meet, and return when every slot is served."""
        for number, node in enumerate(self.nodes):
            node.start()
            first, last = number * SLOTS // NODES, (number + 1) * SLOTS // NODES
            told = asyncio.run(command(node.url, ("CLUSTER", "ADDSLOTS", *range(first, last))))
            assert [b"OK"] == told
        for node in self.nodes[1:]:
            asyncio.run(command(self.nodes[0].url, ("CLUSTER", "MEET", "127.0.0.1", node.port)))
        until = time.monotonic() + UP_SECONDS
        while not all(self._ready(node) for node in self.nodes):
            assert time.monotonic() < until, "the cluster does not come up"
        return self

    def stop(self) -> None:
        """Shut the nodes down."""
        for node in self.nodes:
            node.stop()

    async def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move a slot with all its keys to another node."""
        ids = [text((await command(node.url, ("CLUSTER", "MYID")))[0]) for node in (source, target)]
        await command(target.url, ("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0]))
        await command(source.url, ("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1]))
        (keys,) = await command(source.url, ("CLUSTER", "GETKEYSINSLOT", slot, 10_000))
        names = [raw(key) for key in items(keys)]
        moving: Command = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *names)
        assert [b"OK"] == await command(source.url, moving)
        for node in (target, source, *self.nodes):
            await command(node.url, ("CLUSTER", "SETSLOT", slot, "NODE", ids[1]))

    def owner(self, slot: int) -> RedisServer:
        """Return the node that a slot was given to at the start."""
        return next(node for number, node in enumerate(self.nodes) if slot < (number + 1) * SLOTS // NODES)

    def _ready(self, node: RedisServer) -> bool:
        (info,) = asyncio.run(command(node.url, ("CLUSTER", "INFO")))
        told = text(info)
        return "cluster_state:ok" in told and f"cluster_known_nodes:{NODES}" in told


def port_with_bus() -> int:
    """Find a port that is free together with the one on which the nodes talk to one another."""
    while True:
        port = random.randrange(20_000, 40_000)
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + BUS))
            return port
