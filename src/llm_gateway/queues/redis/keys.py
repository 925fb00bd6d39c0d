"""Where a job lies: its shard, its ticket, its lane's name in a key."""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from llm_gateway._core.jobs import Lane

__all__ = ["Shards", "key_in", "lane_name", "lane_of", "sized"]


@dataclass(frozen=True, slots=True)
class Shards:
    """All keys of a ticket share a slot: that of its tenant and idempotency key.

    Attributes:
        namespace: What the keys of this queue begin with.
        count: How many shards there are; written once to the data set.
    """

    namespace: str
    count: int

    def tag(self, shard: int) -> str:
        """What holds the keys of a shard together in a cluster."""
        return f"{self.namespace}:{shard}"

    def prefix(self, shard: int) -> str:
        """What the keys of a shard begin with; the braces mark its tag."""
        return f"{{{self.tag(shard)}}}:"

    def of(self, tenant: str, name: str) -> int:
        """Return the shard of a tenant's idempotency key, group or whatever it names."""
        return crc_hqx(sized(tenant, name), 0) % self.count

    def ticket(self, ulid: str, shard: int) -> str:
        """Return the ticket id that an id becomes in a shard."""
        return f"{ulid}-{shard}"

    def of_ticket(self, ticket_id: str) -> int | None:
        """Return the shard of a ticket; ``None`` when no such ticket was ever issued."""
        _, _, shard = ticket_id.rpartition("-")
        if not shard.isascii() or not shard.isdigit() or len(shard) > len(str(self.count)):
            return None
        return int(shard) if int(shard) < self.count else None


def sized(tenant: str, name: str) -> bytes:
    """Write a tenant and a name so that no two pairs look alike."""
    owner = tenant.encode()
    return b"%d:%b:%b" % (len(owner), owner, name.encode())


def key_in(name: bytes, tenant: str) -> str:
    """Return the name in what `sized` wrote."""
    return name[len(sized(tenant, "")) :].decode()


@lru_cache(maxsize=1024)
def lane_name(lane: Lane) -> str:
    """Write a lane as part of a key."""
    return f"{quote(lane.provider, safe='')}/{quote(lane.model, safe='')}"


def lane_of(name: str) -> Lane:
    """Read what `lane_name` wrote."""
    provider, _, model = name.partition("/")
    return Lane(unquote(provider), unquote(model))
