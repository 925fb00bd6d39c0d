"""``llm-gateway worker``: one process that drains the queue, or a supervisor of several."""

from __future__ import annotations

import asyncio
import logging
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Coroutine
from typing import Final

from llm_gateway._core.jobs import LaneStats
from llm_gateway.cli.desk import require_shared
from llm_gateway.cli.stopping import Stopping
from llm_gateway.client import LLMClient
from llm_gateway.settings import settings_of_process
from llm_gateway.wiring import wire
from llm_gateway.worker import Worker

__all__ = ["run_worker"]

logger: Final = logging.getLogger("llm_gateway")
PARKED: Final = "parked"


def run_worker(options: Namespace) -> int:
    """Drain the queue until told to stop, or until nothing is left; return the exit code.

    Raises:
        ConfigurationError: the settings do not make a worker.
        QueueError: the queue does not open.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    if options.processes is None:
        return asyncio.run(_work(options))
    from llm_gateway.cli.supervisor import Supervisor, command_of_children

    # What is set up wrongly is told here, once, and not by each process.
    asyncio.run(_try_out())
    return asyncio.run(Supervisor(command_of_children(options), options.processes, ends=options.until_empty).run())


async def _work(options: Namespace) -> int:
    with Stopping() as stopping:
        # A task of its own: a second signal ends it wherever it stands, which hands its jobs back at once.
        work = asyncio.create_task(_drain(options, stopping))
        stopping.hurried = work.cancel
        if options.supervised:
            stopping.follow(sys.stdin.fileno())
        await asyncio.wait({work})
    if not work.cancelled():
        work.result()
    return 0


async def _try_out() -> None:
    """Open what every process will open, and close it again."""
    wired = wire(settings_of_process())
    async with LLMClient(wired.providers, require_shared(wired.queue), wired.parts):
        return


async def _drain(options: Namespace, stopping: Stopping) -> None:
    wired = wire(settings_of_process())
    queue = require_shared(wired.queue)
    client = LLMClient(wired.providers, queue, wired.parts)
    async with client:
        serving = client.worker(concurrency=options.concurrency, drain_timeout=options.drain_timeout)
        async with serving as worker:
            logger.info("%s drains %s", worker.name, type(queue).__name__)
            await _until_told(worker, stopping, ends=options.until_empty)
            logger.info("%s claims nothing more; %d requests are running", worker.name, worker.running)
        if options.until_empty and not stopping.asked.is_set():
            logger.info("Nothing is left to do. %s", left_over(await queue.lanes(), {p.name for p in wired.providers}))


async def _until_told(worker: Worker, stopping: Stopping, *, ends: bool) -> None:
    waits: list[Coroutine[object, object, object]] = [stopping.asked.wait()]
    if ends:
        waits.append(worker.drained())
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def left_over(lanes: list[LaneStats], providers: set[str]) -> str:
    """Tell what a worker that found nothing to do leaves in the queue."""
    counts: Counter[str] = Counter()
    for lane in lanes:
        counts[_why_left(lane, providers)] += lane.ready + lane.delayed
        counts[PARKED] += lane.parked
    told = [f"{count} {why}" for why, count in counts.items() if count]
    return f"Left in the queue: {', '.join(told)}." if told else "Nothing is left in the queue."


def _why_left(lane: LaneStats, providers: set[str]) -> str:
    if lane.lane.provider not in providers:
        return "of providers that are not configured here"
    if lane.gate.paused:
        return "in paused lanes"
    return PARKED if lane.gate.parked is not None else "behind an account that waits for an operator"
