"""What goes to standard output: aligned tables for people, one JSON document for programs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Table", "age", "note", "plain", "show", "show_json"]

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under titles."""

    titles: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def lines(self) -> list[str]:
        """The table as aligned text."""
        rows = [list(self.titles), *([plain(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def show(*tables: Table) -> None:
    """Print tables: by ``rich`` where that is installed and somebody looks."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        _show_rich(tables)
        return
    sys.stdout.write("\n\n".join("\n".join(table.lines) for table in tables) + "\n")


def _show_rich(tables: Sequence[Table]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    for table in tables:
        drawn = RichTable(*table.titles, box=None, pad_edge=False, header_style="bold")
        for row in table.rows:
            # As text, so that nothing in a name is taken for markup.
            drawn.add_row(*(Text(plain(cell)) for cell in row))
        console.print(drawn)
        if table is not tables[-1]:
            console.print()


def show_json(document: Mapping[str, object]) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, default=_written) + "\n")


def note(text: str) -> None:
    """Tell the operator something beside the output."""
    sys.stderr.write(plain(text) + "\n")


def plain(value: object) -> str:
    """Show a value on one line; names come from callers and may hold what a terminal would obey."""
    if value is None or value == "":
        return "-"
    text = value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def age(since: datetime | None, now: datetime | None = None) -> str:
    """Tell how long ago something was, roughly."""
    if since is None:
        return "-"
    seconds = max(int(((now or datetime.now(UTC)) - since).total_seconds()), 0)
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds >= 2 * unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
