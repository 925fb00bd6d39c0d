"""The command on a terminal: questions are asked there, and tables are drawn for eyes."""

from __future__ import annotations

import os
import pty
import sys
from contextlib import suppress

import anyio
from tests.cli.stage import PATIENCE, Stage

CHUNK = 4096


def read_all(terminal: int) -> str:
    """Read what is written to a terminal until nobody has it open any more."""
    parts: list[bytes] = []
    with suppress(OSError):
        while part := os.read(terminal, CHUNK):
            parts.append(part)
    return b"".join(parts).decode()


async def on_terminal(stage: Stage, *arguments: str, answer: str = "") -> tuple[int, str]:
    """Run the command on a terminal of its own; return its exit code and what stood there."""
    terminal, other = pty.openpty()
    try:
        os.write(terminal, answer.encode())
        command = [sys.executable, *stage.program, *arguments]
        environment = {**stage.environment, "COLUMNS": "200"}
        with anyio.fail_after(PATIENCE):
            process = await anyio.open_process(command, env=environment, stdin=other, stdout=other, stderr=other)
            os.close(other)
            shown = await anyio.to_thread.run_sync(read_all, terminal, abandon_on_cancel=True)
            return await process.wait(), shown
    finally:
        os.close(terminal)


async def test_agreed(stage: Stage) -> None:
    """Whoever answers yes has more than one ticket changed."""
    tickets = await stage.submitted(2)
    code, shown = await on_terminal(stage, "queue", "cancel", *tickets, answer="y\n")
    assert (0, True) == (code, "Cancel 2 tickets? [y/N]" in shown)
    assert ["cancelled", "cancelled"] == await stage.states(tickets)


async def test_declined(stage: Stage) -> None:
    """Whoever only presses return has nothing changed."""
    tickets = await stage.submitted(2, group="batch-7")
    code, shown = await on_terminal(stage, "queue", "cancel", "--group", "batch-7", answer="\n")
    assert (1, True) == (code, "Cancel every ticket of the group batch-7? [y/N]" in shown)
    assert ["queued", "queued"] == await stage.states(tickets)


async def test_table_for_eyes(stage: Stage) -> None:
    """On a terminal the table has bold titles, and a name that looks like markup stays as it is."""
    (ticket,) = await stage.submitted(1, group="[red]batch[/red]")
    code, shown = await on_terminal(stage.having(TERM="xterm"), "queue", "list")
    assert (0, True, True, True) == (code, ticket in shown, "[red]batch[/red]" in shown, "\x1b[1m" in shown)
