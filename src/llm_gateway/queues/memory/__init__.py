"""The queue in memory: the whole contract but surviving the process. For development and tests."""

from __future__ import annotations

from llm_gateway._core.environments import WORKSHOP, Environment
from llm_gateway._null import SystemClock
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock, QueueBackend
from llm_gateway.queues.memory.admin import MemoryAdmin
from llm_gateway.queues.memory.events import MemoryOutbox, MemoryWatch
from llm_gateway.queues.memory.keys import MemoryKeys
from llm_gateway.queues.memory.ledger import Ledger
from llm_gateway.queues.memory.store import MemoryStore
from llm_gateway.queues.memory.work import MemoryWork

__all__ = ["MemoryQueue"]

DEFAULT_OPTIONS = QueueOptions()


class MemoryQueue(MemoryStore, MemoryWork, MemoryOutbox, MemoryWatch, MemoryAdmin, MemoryKeys, QueueBackend):
    """A queue that lives and dies with its process. To be used from one event loop.

    Args:
        options: Bounds and retention.
        clock: Time; the machine's own by default.
    """

    def __init__(self, options: QueueOptions = DEFAULT_OPTIONS, *, clock: Clock | None = None) -> None:
        super().__init__(Ledger(options, clock or SystemClock()))

    def __repr__(self) -> str:
        return f"<MemoryQueue depth={self._ledger.depth} lanes={len(self._ledger.lanes)}>"

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Development and testing."""
        return WORKSHOP

    @property
    def durable(self) -> bool:
        """False: an accepted job does not survive this process."""
        return False

    async def start(self, *, outbox: bool) -> None:
        """Take work; write the outbox if asked to. A second start may add the outbox but does not take it away."""
        self._ledger.relaying = outbox or (self._ledger.relaying and not self._ledger.closed)
        self._ledger.closed = False

    async def aclose(self) -> None:
        """Take no more work. Whoever waits gets `QueueUnavailable`; stored jobs stay."""
        self._ledger.closed = True
        self._ledger.journal.wake_all()
        self._ledger.ready.fire()
