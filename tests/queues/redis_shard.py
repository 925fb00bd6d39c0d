"""One shard of a queue in Redis by its scripts and keys, for what the queue itself never asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.queues.redis_audit import audit
from tests.queues.redis_bench import command

from llm_gateway._io.redis import Refused
from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis.rows import items, micros, time_of
from llm_gateway.queues.redis.scripts import Script, source_of
from llm_gateway.testing.clock import FakeClock

__all__ = ["RedisShard"]

DEFAULT: Final = QueueOptions()


@dataclass(frozen=True, slots=True)
class RedisShard:
    """The first shard of a queue."""

    url: str
    namespace: str
    clock: FakeClock
    options: QueueOptions = DEFAULT

    @property
    def prefix(self) -> str:
        """What its keys begin with."""
        return f"{{{self.namespace}:0}}:"

    @property
    def now(self) -> int:
        """The time in microseconds."""
        return time_of(self.clock.now())

    async def run(self, script: Script, *parts: str | int) -> object:
        """Run a script, as the queue would, and return what it replies."""
        kept = (micros(self.options.result_retention), micros(self.options.dead_letter_retention))
        order = (source_of(script, flags=False).text, 1, f"{self.prefix}cnt", self.prefix, self.now, *kept, *parts)
        (reply,) = await command(self.url, ("EVAL", *order))
        assert not isinstance(reply, Refused), reply
        return items(reply)[2]

    async def do(self, name: str, key: str, *parts: str | int) -> object:
        """Run a command on one of its keys."""
        (reply,) = await command(self.url, (name, self.prefix + key, *parts))
        assert not isinstance(reply, Refused), reply
        return reply

    def complaints(self) -> list[str]:
        """Return what does not add up."""
        return audit(self.url, self.namespace, self.options, self.clock)
