"""What the command line may say. Only argparse is needed to tell, so that ``--help`` loads nothing of the library."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from llm_gateway._core.lifecycle import TicketState

__all__ = ["COMMANDS", "Command", "parser"]

PROGRAM: Final = "llm-gateway"
WIDTH: Final = 100
ABOUT: Final = "Drain and operate the queue of llm_gateway."
ENDING: Final = """\
Settings are read from the environment (LLM_GATEWAY_QUEUE and so on). Exit codes: 0 done, 1 the
operation failed, 2 it was asked or set up wrongly. COMMAND --help tells the options of each."""
GROUPS: Final = {"queue": "look at tickets and act on them", "lane": "look at lanes, stop them and let them go on"}


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        name: One word, or two.
        takes: What follows the options on its usage line.
        about: What it does.
        fill: Gives its parser the options.
    """

    name: str
    takes: str
    about: str
    fill: Callable[[ArgumentParser], object]

    @property
    def group(self) -> str:
        """Its first word of two; empty when it has one."""
        return self.name.rpartition(" ")[0]

    @property
    def word(self) -> str:
        """Its last word."""
        return self.name.rpartition(" ")[2]


class _Formatter(RawDescriptionHelpFormatter):
    """As wide on every terminal, so that the reference shows what the terminal shows."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


class _Version(Action):
    """Looks the version up only when asked."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        sys.stdout.write(f"{PROGRAM} {version(PROGRAM)}\n")
        parser.exit()


class _Parser(ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where to look, and exit with 2."""
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def parser() -> ArgumentParser:
    """Make the parser of the whole command."""
    top = _Parser(prog=PROGRAM, epilog=ENDING)
    _describe(top, " COMMAND ...", ABOUT)
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    # The commands stand in one table; argparse nests those of two words.
    outer = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands", prog=PROGRAM)
    for group, about in GROUPS.items():
        made = outer.add_parser(group, help=about)
        _describe(made, " OPERATION ...", _sentence(about))
        inner = made.add_subparsers(
            dest="operation", required=True, metavar="OPERATION", title="operations", prog=made.prog
        )
        for command in COMMANDS:
            if command.group == group:
                _fill(inner.add_parser(command.word, help=command.about), command)
    for command in COMMANDS:
        if not command.group:
            _fill(outer.add_parser(command.word, help=command.about), command)
    return top


def _fill(made: ArgumentParser, command: Command) -> None:
    _describe(made, f" [options]{command.takes}", _sentence(command.about))
    command.fill(made)


def _describe(made: ArgumentParser, takes: str, about: str) -> None:
    made.usage = f"{made.prog}{takes}"
    made.description = about
    made.formatter_class = _Formatter


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _at_least_one(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        message = f"{text!r} is no whole number of at least 1"
        raise ArgumentTypeError(message)
    return number


def _at_least_one_or_none(text: str) -> int | None:
    return None if text == "none" else _at_least_one(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    # A drain without end could not be told from a worker that hangs.
    if not 0.0 <= number < float("inf"):
        message = f"{text!r} is no number of seconds"
        raise ArgumentTypeError(message)
    return number


def _worker(one: ArgumentParser) -> None:
    one.add_argument("--processes", type=_at_least_one, metavar="N", help="start N processes and keep them running")
    one.add_argument("--until-empty", action="store_true", help="end when nothing is left that it can do")
    one.add_argument("--concurrency", type=_at_least_one, metavar="N", help="requests at once in each process")
    one.add_argument(
        "--drain-timeout", type=_seconds, metavar="S", help="seconds that running requests get when it is stopped"
    )
    one.add_argument("--supervised", action="store_true", help="stop when standard input ends, as --processes does it")


def _stats(one: ArgumentParser) -> None:
    one.add_argument(
        "--over", type=_seconds, metavar="S", help="look twice, S seconds apart, and tell when it will be empty"
    )
    _common(one)


def _list(one: ArgumentParser) -> None:
    one.add_argument("--tenant", help="of this tenant only")
    one.add_argument("--state", choices=[state.value for state in TicketState], help="in this state only")
    _filters(one)
    one.add_argument("--limit", type=_at_least_one, metavar="N", default=50, help="at most this many (default: 50)")
    _common(one)


def _show(one: ArgumentParser) -> None:
    one.add_argument("ticket", metavar="TICKET", help="id of a ticket")
    one.add_argument("--payload", action="store_true", help="show what was asked too: the prompt and what is echoed")
    _tenant(one)
    _common(one)


def _cancel(one: ArgumentParser) -> None:
    _tickets(one)
    one.add_argument("--group", help="every ticket of this group instead")
    _change(one)


def _requeue(one: ArgumentParser) -> None:
    _tickets(one)
    one.add_argument("--failed", action="store_true", help="every failed ticket among the newest instead")
    _filters(one)
    one.add_argument(
        "--limit",
        type=_at_least_one,
        metavar="N",
        default=1000,
        help="with --failed, at most this many (default: 1000)",
    )
    _change(one)


def _erase(one: ArgumentParser) -> None:
    _tickets(one)
    one.add_argument("--subject", help="everything that names this subject instead")
    one.add_argument("--everything", action="store_true", help="everything of the tenant instead, and its key")
    _change(one)


def _drop(one: ArgumentParser) -> None:
    one.add_argument("--yes", action="store_true", help="do not ask")
    _common(one)


def _lane(one: ArgumentParser) -> None:
    one.add_argument("lane", metavar="LANE", help="a provider and a model, such as openai/gpt-4o")
    _common(one)


def _lane_limit(one: ArgumentParser) -> None:
    _lane(one)
    one.add_argument("most", metavar="N|none", type=_at_least_one_or_none, help="how many; none: as many as there are")


def _tickets(one: ArgumentParser) -> None:
    one.add_argument("tickets", metavar="TICKET", nargs="*", help="ids of tickets")


def _filters(one: ArgumentParser) -> None:
    one.add_argument("--group", help="of this group only")
    one.add_argument("--lane", help="of this lane only: a provider and a model, such as openai/gpt-4o")


def _change(one: ArgumentParser) -> None:
    one.add_argument("--yes", action="store_true", help="do not ask before acting on more than one ticket")
    _tenant(one)
    _common(one)


def _tenant(one: ArgumentParser) -> None:
    one.add_argument("--tenant", default="", help="whose tickets (default: those without a tenant)")


def _common(one: ArgumentParser) -> None:
    one.add_argument("--json", action="store_true", help="print one JSON document")


ERASE: Final = " TICKET... | --subject SUBJECT | --everything"
COMMANDS: Final = (
    Command("worker", "", "drain the queue until it is stopped", _worker),
    Command("doctor", "", "check environment, settings and queue", _common),
    Command("queue stats", "", "show how much waits, runs and has failed", _stats),
    Command("queue list", "", "list the newest tickets", _list),
    Command("queue show", " TICKET", "show one ticket", _show),
    Command("queue cancel", " TICKET... | --group GROUP", "cancel tickets that have not ended", _cancel),
    Command("queue requeue", " TICKET... | --failed", "make new tickets of failed ones", _requeue),
    Command("queue erase", ERASE, "cancel tickets and remove what they hold", _erase),
    Command("queue drop-outbox", "", "drop the events that nobody publishes any more", _drop),
    Command("lane list", "", "list the lanes and what each waits for", _common),
    Command("lane pause", " LANE", "stop handing out the requests of a lane", _lane),
    Command("lane limit", " LANE N|none", "let at most N requests of a lane run at once, in all workers", _lane_limit),
    Command("lane resume", " LANE", "let a paused or parked lane go on", _lane),
    Command("lane reset", " LANE", "close the mirrored circuit of a lane and let it go on", _lane),
)
