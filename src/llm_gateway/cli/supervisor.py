"""Keeps several worker processes running: each is the command itself, started anew."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from argparse import Namespace
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from llm_gateway.cli.stopping import Stopping

__all__ = ["Supervisor", "command_of_children"]

logger: Final = logging.getLogger("llm_gateway")
# A process that ran this long had started; its end is not counted with earlier ones.
STEADY_SECONDS: Final = 30.0
MOST_FAILURES: Final = 5
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
DONE, FAILED, WRONG = 0, 1, 2


class Supervisor:
    """Starts *count* processes and starts another for each that ends by itself.

    They are started, never forked: a child shares no event loop, connection or file lock with its parent. Each is in a
    session of its own, so that a Ctrl-C reaches it once, through its parent.

    Args:
        command: What each process runs.
        count: How many.
        ends: Whether a process that ends well has done its work.
        first_pause: Seconds before the first restart; each quick failure doubles them, up to 30.
    """

    def __init__(self, command: Sequence[str], count: int, *, ends: bool, first_pause: float = FIRST_PAUSE) -> None:
        self._command = command
        self._first_pause = first_pause
        self._count = count
        self._ends = ends
        self._running: set[Process] = set()

    async def run(self) -> int:
        """Run until all have ended; return the exit code: that of those that could not be kept running, else 0."""
        with Stopping() as stopping:
            stopping.hurried = self._forward
            forwarding = asyncio.create_task(self._forward_first(stopping))
            codes = await asyncio.gather(*(self._kept(stopping) for _ in range(self._count)))
            forwarding.cancel()
            await asyncio.wait({forwarding})
        return max(codes)

    async def _forward_first(self, stopping: Stopping) -> None:
        await stopping.asked.wait()
        self._forward()

    def _forward(self) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def _kept(self, stopping: Stopping) -> int:
        failures = 0
        while True:
            began = time.monotonic()
            code = await self._ran_once(stopping)
            if stopping.asked.is_set() or (self._ends and code == DONE):
                return DONE
            failures = 1 if time.monotonic() - began >= STEADY_SECONDS else failures + 1
            if code == WRONG or failures >= MOST_FAILURES:
                # What is set up wrongly stays so; the others would follow one by one.
                logger.error("Worker processes cannot be kept running: the last one ended with %d", code)
                stopping.asked.set()
                return WRONG if code == WRONG else FAILED
            pause = min(self._first_pause * 2 ** (failures - 1), LONGEST_PAUSE)
            logger.warning("A worker process ended with %d; another starts in %g s", code, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.asked.wait(), pause)
            if stopping.asked.is_set():
                return DONE

    async def _ran_once(self, stopping: Stopping) -> int:
        # Its input stays open as long as this process lives: by its end the child knows that its parent is gone.
        process = await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, start_new_session=True)
        self._running.add(process)
        if stopping.asked.is_set():
            self._forward()
        try:
            return await process.wait()
        finally:
            self._running.discard(process)


def command_of_children(options: Namespace) -> Sequence[str]:
    """Return the command line of a child: this process's own interpreter and program, without ``--processes``."""
    given: dict[str, object] = {
        "--concurrency": options.concurrency,
        "--drain-timeout": options.drain_timeout,
    }
    flags = ["--until-empty"] if options.until_empty else []
    valued = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    program = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv[1:])]
    return (sys.executable, *program, "worker", "--supervised", *flags, *valued)
