"""What the demo shows: a progress bar and notes on a terminal, plain lines of log elsewhere, and the tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from types import TracebackType
from typing import Final, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.demo.ranking import Standing
from examples.demo.tally import Tally

__all__ = ["Report", "make_console", "price"]

LOG_EVERY: Final = 10
LOG_WIDTH: Final = 100


def make_console() -> Console:
    """Make a console that writes colours and cursor movements to a terminal only, whatever the environment asks."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, force_terminal=False, no_color=True, width=LOG_WIDTH)


class Report:
    """Shows a run while it goes on. Use it as a context manager, then print its tables.

    Args:
        console: Where to print.
        total: Questions that will be asked.
    """

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._started = time.monotonic()
        self._logged = 0
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("judgements", total=total, detail="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str, *, style: str = "") -> None:
        """Tell what just happened, with the seconds since the start."""
        elapsed = time.monotonic() - self._started
        self._console.print(f"{elapsed:6.1f} s  {text}", style=style, markup=False, soft_wrap=True)

    def progress(self, tally: Tally) -> None:
        """Show how far the run has come; in a log, one line for every ten answers."""
        waiting = len(tally.tickets) - len(tally.fetched)
        self._progress.update(self._task, completed=tally.completed, detail=f"{waiting} waiting")
        step = tally.completed // LOG_EVERY
        if not self._console.is_terminal and step > self._logged:
            self._logged = step
            self.note(f"{tally.completed} of {self._total} answered, {waiting} waiting")

    def summary(self, tally: Tally, *, provider_calls: int) -> None:
        """Print the table of counts."""
        table = Table("", "count", box=SIMPLE_HEAD, title="What became of the questions", title_justify="left")
        table.columns[1].justify = "right"
        for name, count in _counts(tally, provider_calls):
            table.add_row(name, count, style="bold red" if name in {"lost", "replayed"} and count != "0" else "")
        self._console.print(table)

    def order(self, standings: Sequence[Standing]) -> None:
        """Print the essays, best first."""
        table = Table("rank", "essay", "ability", "wins", box=SIMPLE_HEAD, title_justify="left")
        table.title = "Order of the essays (Bradley-Terry)"
        for column in (0, 2, 3):
            table.columns[column].justify = "right"
        for place, standing in enumerate(standings, start=1):
            won = f"{standing.wins}/{standing.comparisons}"
            table.add_row(str(place), standing.name, f"{standing.ability:+.2f}", won)
        self._console.print(table)


def _counts(tally: Tally, provider_calls: int) -> list[tuple[str, str]]:
    counts = {
        "asked": tally.asked,
        "answered live": len(tally.live),
        "queued": len(tally.tickets),
        "completed": tally.completed,
        "failed": len(tally.failed),
        "lost": tally.lost,
        "replayed": tally.replayed,
        "distinct response ids": tally.response_ids,
        "provider calls": provider_calls,
    }
    return [*((name, str(count)) for name, count in counts.items()), ("cost", price(tally.cost))]


def price(dollars: Decimal | None) -> str:
    """Write an amount, or that there is no price for it."""
    return "not known" if dollars is None else f"${dollars:.4f}"
