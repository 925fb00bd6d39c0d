"""Tasks that outlive the call that started them, and end with the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Final, TypeVar

__all__ = ["Background"]

T = TypeVar("T")
logger: Final = logging.getLogger("llm_gateway")


class Background:
    """Holds tasks until they end; `aclose` cancels the rest and waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[object, object, T], name: str) -> asyncio.Task[T]:
        """Run *work*; an exception that escapes it is logged by class, never lost silently."""
        task = asyncio.create_task(work, name=f"llm_gateway {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def settled(self, timeout: float) -> None:
        """Wait up to *timeout* seconds for all tasks to end by themselves."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)

    async def aclose(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The message may hold anything; a typed error of this library shows nothing of a prompt.
            logger.error("%s ended with %s", task.get_name(), type(error).__name__)
