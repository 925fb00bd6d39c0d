"""Waking tasks."""

from __future__ import annotations

import anyio

__all__ = ["Signal"]


class Signal:
    """Wakes whoever waits now; a fire that nobody waits for is not kept."""

    __slots__ = ("__weakref__", "_event")

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def fire(self) -> None:
        """Wake all who wait."""
        if self._event is not None:
            self._event.set()
            self._event = None

    def listen(self) -> anyio.Event:
        """Return what the next `fire` sets. Listening before a look at the state misses no change."""
        if self._event is None:
            self._event = anyio.Event()
        return self._event

    async def wait(self) -> None:
        """Return at the next `fire`."""
        await self.listen().wait()
