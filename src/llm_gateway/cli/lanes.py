"""Commands on lanes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Awaitable, Callable

from llm_gateway._core.jobs import Lane
from llm_gateway.cli.desk import OperatorDesk
from llm_gateway.cli.documents import lane_document
from llm_gateway.cli.looking import lane_table
from llm_gateway.cli.showing import show, show_json

__all__ = ["limit", "list_lanes", "pause", "reset", "resume"]


async def list_lanes(desk: OperatorDesk, options: Namespace) -> int:
    """List the lanes."""
    lanes = (await desk.queue.stats()).lanes
    if options.json:
        show_json({"lanes": [lane_document(lane) for lane in lanes]})
    else:
        show(lane_table(lanes))
    return 0


async def pause(desk: OperatorDesk, options: Namespace) -> int:
    """Stop claims of a lane."""
    return await _change(desk, options, desk.queue.pause)


async def limit(desk: OperatorDesk, options: Namespace) -> int:
    """Bound how many requests of a lane run at once."""
    return await _change(desk, options, lambda lane: desk.queue.limit(lane, options.most))


async def resume(desk: OperatorDesk, options: Namespace) -> int:
    """Let a paused or parked lane go on."""
    return await _change(desk, options, desk.queue.resume)


async def reset(desk: OperatorDesk, options: Namespace) -> int:
    """Close the mirrored circuit too."""
    return await _change(desk, options, desk.reset)


async def _change(desk: OperatorDesk, options: Namespace, change: Callable[[Lane], Awaitable[None]]) -> int:
    lane = (await desk.lane(options.lane)).lane
    await change(lane)
    after = await desk.lane(options.lane)
    if options.json:
        show_json(lane_document(after))
    else:
        show(lane_table((after,)))
    return 0
