"""Runs the commands of an operator: each opens the queue, does one thing, and tells what it did."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from llm_gateway.cli.changing import cancel, drop_outbox, erase, requeue
from llm_gateway.cli.desk import OperatorDesk, open_desk
from llm_gateway.cli.lanes import limit, list_lanes, pause, reset, resume
from llm_gateway.cli.looking import list_tickets, show_stats, show_ticket
from llm_gateway.settings import settings_of_process

__all__ = ["run_operation"]

OPERATIONS: Final[Mapping[tuple[str, str], Callable[[OperatorDesk, Namespace], Awaitable[int]]]] = {
    ("queue", "stats"): show_stats,
    ("queue", "list"): list_tickets,
    ("queue", "show"): show_ticket,
    ("queue", "cancel"): cancel,
    ("queue", "requeue"): requeue,
    ("queue", "drop-outbox"): drop_outbox,
    ("queue", "erase"): erase,
    ("lane", "list"): list_lanes,
    ("lane", "pause"): pause,
    ("lane", "limit"): limit,
    ("lane", "resume"): resume,
    ("lane", "reset"): reset,
}


def run_operation(options: Namespace) -> int:
    """Carry out a queue or lane command; return the exit code.

    Raises:
        LLMGatewayError: it could not be carried out.
    """
    return asyncio.run(_operate(options))


async def _operate(options: Namespace) -> int:
    operation = OPERATIONS[options.command, options.operation]
    async with open_desk(settings_of_process()) as desk:
        return await operation(desk, options)
