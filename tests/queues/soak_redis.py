"""What a queue has stored in Redis, key by key. Everything is scanned: for tests and measurements alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from tests.queues.resident import resident
from tests.queues.soak import Reading

from llm_gateway._io.redis import Command, RedisLink, Refused
from llm_gateway.queues.redis.keys import sized
from llm_gateway.queues.redis.rows import items, text

__all__ = ["RedisCensus"]

# From these every key that does not end by itself has to be found.
ROOTS: Final = frozenset({"cnt", "meta", "ev", "wk", "nudge", "due", "lse", "held", "lanes", "tenants", "kept"})
OF_A_LANE: Final = ("lane", "rdy", "dly", "prk", "old", "dlq", "vt", "pg")
HOLDING_TICKETS: Final = ("rdy", "dly", "prk", "old", "dlq")
LOGS: Final = frozenset({"ev", "wk", "nudge"})
CARDINALITY: Final = {"hash": "HLEN", "set": "SCARD", "zset": "ZCARD", "list": "LLEN", "string": "EXISTS"}
SCANNED: Final = 1_000


class RedisCensus:
    """One shard of a queue.

    Args:
        url: Of a server that holds nothing else.
        prefix: What the shard's keys begin with.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._link = RedisLink(url, connect_timeout=5.0, reply_timeout=30.0)
        self._prefix = prefix

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.aclose()

    async def unsettled(self) -> int:
        """Count jobs and keys of jobs, what is held for them, and claims that may be asked again."""
        return sum(name.partition(":")[0] in {"j", "i", "clm", "pg"} for name in await self._keys())

    async def strays(self) -> list[str]:
        """Name the keys that have no time to live and are not found from any root."""
        names = await self._keys()
        reached = await self._reached()
        left = [name for name in names if name not in reached]
        ends = await self._each("PTTL", left)
        return [name for name, end in zip(left, ends, strict=True) if end == -1]

    async def read(self, jobs: int, strays: Sequence[str]) -> Reading:
        """Read what is left."""
        names = sorted(await self._keys() - LOGS)
        types = [text(kind) for kind in await self._each("TYPE", names)]
        counts = await self._ask(
            [(CARDINALITY[kind], self._prefix + name) for name, kind in zip(names, types, strict=True)]
        )
        sizes = await self._ask([("MEMORY", "USAGE", self._prefix + name, "SAMPLES", "0") for name in sorted(LOGS)])
        memory, log = await self._ask([("INFO", "memory"), ("XLEN", self._prefix + "ev")])
        # Without the connections, and without what the interpreter of the scripts has not yet cleared away.
        (used,) = (line for line in text(memory).splitlines() if line.startswith("used_memory_dataset:"))
        return Reading(
            jobs=jobs,
            kinds=Counter(name.partition(":")[0] for name in names),
            elements=sum(map(number, counts)),
            bytes=int(used.partition(":")[2]) - sum(map(number, sizes)),
            log=number(log),
            resident=resident(),
            strays=tuple(strays),
        )

    async def _reached(self) -> set[str]:
        """Return the names of all keys that are found from the roots."""
        lanes, tenants, kept = [await self._members("SMEMBERS", name) for name in ("lanes", "tenants", "kept")]
        found = {*ROOTS, *kept, *(f"l:{tenant}" for tenant in tenants)}
        found |= {f"{kind}:{lane}" for kind in OF_A_LANE for lane in lanes}
        tickets = set(await self._unrelayed())
        for name in ("due", "lse", *(f"l:{tenant}" for tenant in tenants)):
            tickets |= set(await self._members("ZRANGE", name, "0", "-1"))
        for kind in HOLDING_TICKETS:
            order = ("SMEMBERS",) if kind == "prk" else ("ZRANGE", "0", "-1")
            for lane in lanes:
                tickets |= set(await self._members(order[0], f"{kind}:{lane}", *order[1:]))
        for ticket in tickets:
            found |= {f"j:{ticket}", f"c:{ticket}"} | await self._of_job(ticket)
        return found

    async def _of_job(self, ticket: str) -> set[str]:
        (fields,) = await self._ask([("HMGET", f"{self._prefix}j:{ticket}", "key", "t", "g", "sb")])
        key, tenant, group, subjects = ["" if field is None else text(field) for field in items(fields)]
        of_subjects = {f"sub:{sized(tenant, subject).decode()}" for subject in json.loads(subjects or "[]")}
        return {f"i:{key}", f"g:{sized(tenant, group).decode()}"} | of_subjects

    async def _unrelayed(self) -> Iterable[str]:
        """Return the tickets of events that have not left: the log is no index of any others."""
        relaying, relayed = [
            text(field or b"0")
            for field in items((await self._ask([("HMGET", f"{self._prefix}cnt", "ob", "relayed")]))[0])
        ]
        if relaying != "1":
            return ()
        (entries,) = await self._ask([("XRANGE", f"{self._prefix}ev", f"{int(relayed) + 1}-0", "+")])
        return {text(items(items(entry)[1])[1]) for entry in items(entries)}

    async def _keys(self) -> set[str]:
        names, cursor = set[str](), "0"
        while True:
            (reply,) = await self._ask([("SCAN", cursor, "COUNT", str(SCANNED))])
            after, page = items(reply)
            names |= {text(key).removeprefix(self._prefix) for key in items(page)}
            cursor = text(after)
            if cursor == "0":
                return names

    async def _members(self, command: str, name: str, *rest: str) -> list[str]:
        (reply,) = await self._ask([(command, self._prefix + name, *rest)])
        return [text(member) for member in items(reply)]

    async def _each(self, command: str, names: Iterable[str]) -> list[object]:
        return await self._ask([(command, self._prefix + name) for name in names])

    async def _ask(self, commands: Sequence[Command]) -> list[object]:
        replies = await self._link.ask(*commands) if commands else []
        assert not any(isinstance(reply, Refused) for reply in replies), replies
        return replies


def number(reply: object) -> int:
    """Read a count; a key that is not there counts nothing."""
    assert reply is None or isinstance(reply, int)
    return reply or 0
