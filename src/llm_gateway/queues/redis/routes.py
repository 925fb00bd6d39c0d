"""Which server holds which shard: one for all, or the nodes of a cluster."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from llm_gateway._io.redis import LinkLost, RedisLink, Refused
from llm_gateway.queues.redis.keys import Shards
from llm_gateway.queues.redis.rows import integer, items, text

__all__ = ["CLUSTER", "ClusterRoutes", "Node", "OneServer", "Routes"]

# A URL that begins so names any one node of a cluster.
CLUSTER: Final = "+cluster://"
SLOTS: Final = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """The links to one server.

    Attributes:
        url: Where it is.
        link: Carries what is answered at once.
        safe: Carries what is answered when it is on the disk; the same where nothing is waited for.
    """

    url: str
    link: RedisLink
    safe: RedisLink

    async def aclose(self) -> None:
        """Close them."""
        for link in {self.link, self.safe}:
            await link.aclose()


class Routes(Protocol):
    """Where each shard is, as far as is known."""

    def of(self, shard: int) -> Node:
        """Return the server that holds a shard."""
        ...

    async def renew(self) -> None:
        """Find out anew: a server said that it holds a shard no longer, or did not answer."""
        ...

    async def aclose(self) -> None:
        """Close every link."""
        ...


class OneServer(Routes):
    """One server that holds every shard."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def of(self, shard: int) -> Node:
        """Return it."""
        return self._node

    async def renew(self) -> None:
        """Nothing to find out."""

    async def aclose(self) -> None:
        """Close its links."""
        await self._node.aclose()


class ClusterRoutes(Routes):
    """The nodes of a cluster, found from any one of them.

    Args:
        url: Of one node, as ``redis+cluster://`` or ``rediss+cluster://``; its user and password are those of all.
        shards: Where jobs lie.
        open_node: Makes the links to a server.
    """

    def __init__(self, url: str, shards: Shards, open_node: Callable[[str], Node]) -> None:
        self._seed = url.replace(CLUSTER, "://", 1)
        self._shards = shards
        self._open_node = open_node
        self._nodes = {self._seed: open_node(self._seed)}
        self._owners = [self._seed] * shards.count

    def of(self, shard: int) -> Node:
        """Return the node that holds a shard."""
        return self._nodes[self._owners[shard]]

    async def renew(self) -> None:
        """Ask the nodes, one after the other, until one tells who holds what."""
        for node in list(self._nodes.values()):
            try:
                (reply,) = await node.link.ask(("CLUSTER", "SLOTS"))
            except LinkLost:
                continue
            if not isinstance(reply, Refused):
                self._owners = self._owners_by(items(reply), node.url)
                return

    async def aclose(self) -> None:
        """Close the links to every node."""
        for node in self._nodes.values():
            await node.aclose()

    def _owners_by(self, ranges: Sequence[object], asked: str) -> list[str]:
        owners = list(self._owners)
        for shard in range(self._shards.count):
            slot = slot_of(self._shards.tag(shard))
            for first, last, primary, *_ in map(items, ranges):
                if integer(first) <= slot <= integer(last):
                    owners[shard] = self._url_of(items(primary), asked)
        for url in set(owners) - set(self._nodes):
            self._nodes[url] = self._open_node(url)
        return owners

    def _url_of(self, node: Sequence[object], asked: str) -> str:
        """Write where a node is; one that names no host is at that of the node that was asked."""
        parts = urlsplit(asked)
        host, port = text(node[0]) or parts.hostname or "", integer(node[1])
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{place}"))


def slot_of(tag: str) -> int:
    """Return the slot of keys with a hash tag."""
    return crc_hqx(tag.encode(), 0) % SLOTS
