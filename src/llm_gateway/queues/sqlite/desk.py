"""What every face of the queue shares: the file's ledger and the thread that works on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from llm_gateway.errors import QueueUnavailable
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.schema import open_file
from llm_gateway.queues.sqlite.writer import Writer

__all__ = ["OnFile"]

T = TypeVar("T")


class OnFile:
    """A face of the queue. Work on the ledger is handed to the thread as a function of it.

    Args:
        path: The file.
        options: Bounds and retention.
        clock: Time.
        mount_table: Where the system lists its mounts.
    """

    def __init__(self, path: Path, options: QueueOptions, clock: Clock, mount_table: Path) -> None:
        self._path = path
        self._options = options
        self._clock = clock
        self._mount_table = mount_table
        self._writer: Writer | None = None
        self._ledger: Ledger | None = None

    @property
    def _open(self) -> Writer:
        if self._writer is None:
            message = "The queue is closed."
            raise QueueUnavailable(message, next_step="Start it first; nothing was stored.")
        self._writer.check_open()
        return self._writer

    async def _write(self, work: Callable[[Ledger], T]) -> T:
        return await self._open.run(lambda: work(self._opened()))

    async def _read(self, work: Callable[[Ledger], T]) -> T:
        return await self._open.run(lambda: work(self._opened()), writes=False)

    def _opened(self) -> Ledger:
        # Called in the thread, which opened the file before it took any work.
        if self._ledger is None:
            self._ledger = self._open_ledger()
        return self._ledger

    def _open_ledger(self) -> Ledger:
        ledger = Ledger(open_file(self._path, self._mount_table), self._options, self._clock)
        self._ledger = ledger
        return ledger
