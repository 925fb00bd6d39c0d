"""Who is using a client: how long each waits at most, and how closing lets them end or sends them away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Final, TypeVar

from llm_gateway.errors import LLMGatewayError
from llm_gateway.protocols import Clock

__all__ = ["GRACE", "Callers", "Patience"]

T = TypeVar("T")
GRACE: Final = 0.4


class Patience:
    """How long one caller waits: until its timeout, or until the client cannot wait any longer.

    Args:
        clock: Time as the policies see it.
        timeout: Seconds that the caller gave.
    """

    __slots__ = ("_clock", "_wake", "deadline", "ended")

    def __init__(self, clock: Clock, timeout: float) -> None:
        self._clock = clock
        self._wake: Callable[[], object] | None = None
        self.deadline = clock.monotonic() + timeout
        self.ended = False

    @property
    def left(self) -> float:
        """Seconds until the timeout, never quite 0."""
        return max(self.deadline - self._clock.monotonic(), 0.001)

    @property
    def over(self) -> bool:
        """Whether nothing more should be begun."""
        return self.ended or self._clock.monotonic() >= self.deadline

    async def bound(self, work: Awaitable[T], late: Callable[[], LLMGatewayError]) -> T:
        """Await *work*, which may take `GRACE` seconds beyond the timeout.

        Raises:
            LLMGatewayError: what *late* makes, when it took longer.
        """
        limit = asyncio.timeout(self.left + GRACE)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():  # somebody else's
                raise
        raise late()

    def cuts(self, limit: asyncio.Timeout) -> AbstractContextManager[None]:
        """Have *limit*, which is entered, pass at once if the caller is to be sent away while the block runs."""

        def pass_now() -> None:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())

        return self.woken_by(pass_now)

    @contextmanager
    def woken_by(self, wake: Callable[[], object]) -> Generator[None]:
        """Have *wake* called if the caller is to be sent away while the block runs."""
        self._wake = wake
        try:
            if self.ended:
                wake()
            yield
        finally:
            self._wake = None

    def end(self) -> None:
        """Send the caller away."""
        self.ended = True
        if self._wake is not None:
            self._wake()


class Callers:
    """Everyone inside a call of one client."""

    __slots__ = ("_count", "_idle", "_waiting")

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._waiting: set[Patience] = set()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    @contextmanager
    def waiting(self, patience: Patience) -> Generator[None]:
        """Let `send_away` reach this caller while the block runs."""
        self._waiting.add(patience)
        try:
            yield
        finally:
            self._waiting.discard(patience)

    async def gone(self, timeout: float) -> None:
        """Wait up to *timeout* seconds until nobody is left."""
        self._idle.clear()
        if self._count == 0:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            pass

    def send_away(self) -> None:
        """End the patience of everyone who waits."""
        for patience in tuple(self._waiting):
            patience.end()
