"""Writes the parts of the documentation that come from the code.

A page holds a pair of comments, ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``; what stands between them is
replaced. ``--check`` changes nothing and fails when a page is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout, suppress
from enum import Enum
from inspect import getdoc
from io import StringIO
from pathlib import Path
from typing import Final

from llm_gateway import LLMClient, options
from llm_gateway._core.admission import ADMISSION, Row
from llm_gateway._core.health import Health, LaneHealth
from llm_gateway._core.lifecycle import TERMINAL, TRANSITIONS, TicketState
from llm_gateway._core.outcomes import Item, Ticket, TicketEvent, TicketStatus
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import LLMResponse, Receipt, Usage
from llm_gateway._ticket_calls import TicketCalls
from llm_gateway.cli.arguments import COMMANDS, parser
from llm_gateway.errors import LLMGatewayError
from llm_gateway.settings import Settings

VALUES: Final[tuple[type, ...]] = (
    LLMRequest,
    LLMResponse,
    Receipt,
    Usage,
    Ticket,
    TicketStatus,
    TicketEvent,
    Item,
    Health,
    LaneHealth,
)
HERE: Final = Path(__file__).parent
REGION: Final = re.compile(r"(<!-- begin: (\S+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
ATTRIBUTE: Final = re.compile(r"^    (\w+): (.+(?:\n        .+)*)", re.MULTILINE)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Lay out a Markdown table."""
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: object) -> str:
    """Show a value of a table: yes and nothing for flags, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"`{value.value}`" if isinstance(value, Enum) else f"`{value}`"


def attributes(documented: type) -> dict[str, str]:
    """Read the ``Attributes:`` section of a class."""
    section = (getdoc(documented) or "").partition("Attributes:\n")[2]
    return {name: " ".join(text.replace("``", "`").split()) for name, text in ATTRIBUTE.findall(section)}


def lifecycle_diagram() -> str:
    """Draw the life of a ticket for mermaid."""
    arrows = [f"    {source} --> {target}: {trigger}" for (source, trigger), target in TRANSITIONS.items()]
    ends = [f"    {state} --> [*]" for state in TicketState if state in TERMINAL]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> queued", *arrows, *ends, "```"])


def lifecycle_table() -> str:
    """List the transitions of a ticket."""
    rows = ([shown(source), shown(trigger), shown(target)] for (source, trigger), target in TRANSITIONS.items())
    return table(("From", "What happens", "To"), rows)


def admission_table() -> str:
    """List what each fault leads to."""
    names = Row._fields
    rows = ([shown(fault), *(shown(getattr(row, name)) for name in names)] for fault, row in ADMISSION.items())
    return table(("Fault", *names), rows)


def admission_columns() -> str:
    """Explain the columns of the admission table."""
    return "\n".join(f"- **{name}**: {text}" for name, text in attributes(Row).items())


def error_tree() -> str:
    """Draw the tree of errors."""
    return "\n".join(["```text", LLMGatewayError.__name__, *branches(LLMGatewayError), "```"])


def branches(parent: type[LLMGatewayError], indent: str = "") -> list[str]:
    """Draw the errors below *parent*."""
    lines: list[str] = []
    children = parent.__subclasses__()
    for child in children:
        last = child is children[-1]
        lines.append(f"{indent}{'└── ' if last else '├── '}{child.__name__}")
        lines += branches(child, f"{indent}{'    ' if last else '│   '}")
    return lines


def descendants(parent: type[LLMGatewayError]) -> list[type[LLMGatewayError]]:
    """List the errors below *parent*, in the order of the tree."""
    return [one for child in parent.__subclasses__() for one in (child, *descendants(child))]


def error_table() -> str:
    """Explain each error."""
    rows = (
        [shown(error.__name__), (getdoc(error) or "").split("\n\n")[0], shown(error.retryable), error.next_step]
        for error in descendants(LLMGatewayError)
    )
    return table(("Error", "Meaning", "Retryable", "Next step"), rows)


def option_tables() -> str:
    """List the options of the parts with their defaults."""
    return "\n\n".join(option_table(getattr(options, name)) for name in options.__all__)


def option_table(kind: type[options.HttpOptions]) -> str:
    """List the options of one part."""
    texts = attributes(kind)
    rows = ([shown(name), shown(field.default), texts[name]] for name, field in kind.model_fields.items())
    summary = (getdoc(kind) or "").split("\n\nAttributes:")[0].replace("``", "`")
    return f"## {kind.__name__}\n\n{summary}\n\n{table(('Option', 'Default', 'Meaning'), rows)}"


def settings_table() -> str:
    """List the settings with the variable each is read from."""
    texts = attributes(Settings)
    nested = set(options.__all__)
    rows = (
        [shown(f"LLM_GATEWAY_{name.upper()}"), shown(name), texts[name]]
        for name, field in Settings.model_fields.items()
        if getattr(field.annotation, "__name__", "") not in nested
    )
    return table(("Variable", "In code", "Meaning"), rows)


def client_methods() -> str:
    """Show what the client can do, each with its own documentation."""
    methods = (
        (name, getdoc(method) or "")
        for kind in (LLMClient, TicketCalls)
        for name, method in vars(kind).items()
        if not name.startswith("_") and callable(getattr(method, "__func__", method))
    )
    return "\n\n".join(f"### {name}\n\n```text\n{text}\n```" for name, text in methods)


def value_tables() -> str:
    """List the fields of what is asked and of what comes back."""
    parts: list[str] = []
    for kind in VALUES:
        summary = (getdoc(kind) or "").split("\n\n")[0].replace("``", "`")
        rows = ([shown(name), text] for name, text in attributes(kind).items())
        parts.append(f"### {kind.__name__}\n\n{summary}\n\n{table(('Field', 'Meaning'), rows)}")
    return "\n\n".join(parts)


def command_help() -> str:
    """Show the help of each command."""
    parts = [f"## {name}\n\n```text\n{help_of(name)}\n```" for name in ("", *(one.name for one in COMMANDS))]
    return "\n\n".join(parts).replace("## \n", "## llm-gateway\n")


def help_of(name: str) -> str:
    """Ask a command for its help."""
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        parser().parse_args([*name.split(), "--help"])
    return printed.getvalue().strip()


REGIONS: Final[Mapping[str, Callable[[], str]]] = {
    "admission-columns": admission_columns,
    "client-methods": client_methods,
    "command-help": command_help,
    "admission-table": admission_table,
    "error-table": error_table,
    "error-tree": error_tree,
    "lifecycle-diagram": lifecycle_diagram,
    "lifecycle-table": lifecycle_table,
    "option-tables": option_tables,
    "settings-table": settings_table,
    "value-tables": value_tables,
}


def renewed(text: str) -> str:
    """Return a page with its generated parts renewed."""
    return REGION.sub(lambda match: f"{match[1]}\n{REGIONS[match[2]]()}\n\n{match[3]}", text)


def main(arguments: list[str]) -> int:
    """Renew all pages, or check them; return the exit code."""
    stale = 0
    for page in sorted(HERE.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if (new := renewed(text)) == text:
            continue
        if "--check" in arguments:
            print(f"docs/{page.relative_to(HERE)} is out of date: run make generate", file=sys.stderr)
            stale += 1
        else:
            page.write_text(new, encoding="utf-8")
    return int(stale > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
