"""Signals: the first asks to stop, the second not to wait. Only the command installs handlers, no library code does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Final, Self

__all__ = ["Stopping"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Takes SIGTERM and SIGINT while its block runs. To be used in the main thread, inside the event loop.

    Attributes:
        asked: Set by the first signal.
        hurried: Called at each signal after the first.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried: Callable[[], object] = _nothing
        self._loop = asyncio.get_running_loop()
        self._before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
        self._followed: int | None = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(self, *_: object) -> None:
        if self._followed is not None:
            self._loop.remove_reader(self._followed)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def follow(self, descriptor: int) -> None:
        """Ask to stop when what a parent holds open is closed: the parent is gone, even if it was killed."""
        os.set_blocking(descriptor, False)
        self._followed = descriptor
        self._loop.add_reader(descriptor, self._read, descriptor)

    def _caught(self, _: int, __: FrameType | None) -> None:
        # A handler runs between any two instructions; the loop is told in its own time.
        self._loop.call_soon_threadsafe(self._signalled)

    def _signalled(self) -> None:
        if self.asked.is_set():
            self.hurried()
        self.asked.set()

    def _read(self, descriptor: int) -> None:
        data = None
        with suppress(BlockingIOError):
            data = os.read(descriptor, 1024)
        if data == b"":
            self._loop.remove_reader(descriptor)
            self._followed = None
            self.asked.set()


def _nothing() -> None:
    return
