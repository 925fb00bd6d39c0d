"""Single-point mutants of a Lua script, by plain rules on its lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Mutant", "mutants_of"]

STRING: Final = r"'[^']*'"
TOKENS: Final = re.compile(rf"{STRING}|--.*|(?:(?!--)[^'])+")
# What stands in code, and what it becomes. Indices of tables are left alone: to swap one is to write another script.
CODE: Final = tuple(
    (re.compile(pattern), become)
    for pattern, become in (
        (r"==", "~="),
        (r"~=", "=="),
        (r"<=", "<"),
        (r">=", ">"),
        (r"<(?!=)", "<="),
        (r">(?!=)", ">="),
        (r"\+ 1\b", "+ 0"),
        (r" \+ ", " - "),
        (r" - ", " + "),
        (r"\band\b", "or"),
        (r"\bor\b", "and"),
        (r"\bnot ", ""),
    )
)
LIMIT: Final = re.compile(r"(?<![\w\[.])(?:[2-9]|\d\d+)(?![\w\].])")
STATES: Final = ("Q", "P", "C", "F", "X", "K")
PLACES: Final = ("r", "d", "k")
PLACE: Final = re.compile(r"\.y [=~]?= $")
CALL: Final = r"(?:redis\.call|[a-z_]+)\(.*\)"
ASSIGNMENT: Final = r"[a-z][\w.]*(?:\[[^\]]*\])?(?:, [\w.]+)* = .*"
STATEMENT: Final = re.compile(rf"(\s*)(?!local |return |for |if |while |function |elseif )({CALL}|{ASSIGNMENT})")
BRANCH: Final = re.compile(r"^(.*\b(?:then|else) )(?!return )(.+?)(?:( end)|$)")
GOES_ON: Final = re.compile(r"\s*(?:\.\.|and |or |\+|')")
DELETED: Final = "-> (deleted)"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One script with one change.

    Attributes:
        file: Which script.
        line: Its line that is changed, from 1.
        was: That line without its indentation.
        column: Where in that line, from 1, so that two changes of one kind differ.
        change: What became what.
        text: The whole script with the change.
    """

    file: str
    line: int
    was: str
    column: int
    change: str
    text: str

    @property
    def name(self) -> str:
        """How it is shown, and found in the list of equivalent ones."""
        return f"{self.was} :: {self.column} {self.change}"


def mutants_of(file: str, text: str) -> Iterator[Mutant]:
    """Give every mutant of a script, from its top to its end."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        indent = len(line) - len(line.lstrip())
        for start, end, become in changes(line, following):
            new = line[:start] + become + line[end:]
            change = f"{line[start:end].strip()} -> {become.strip()}" if become else f"{line[start:end]} {DELETED}"
            whole = "\n".join([*lines[:number], new, *lines[number + 1 :]])
            yield Mutant(file, number + 1, line.strip(), start - indent + 1, change, whole)


def changes(line: str, following: str) -> Iterator[tuple[int, int, str]]:
    """Give each change of a line: from where to where it goes, and what takes its place."""
    if line.lstrip().startswith("--"):
        return
    for token in TOKENS.finditer(line):
        part, start = token[0], token.start()
        if part.startswith("'"):
            yield from in_string(line, part, start)
        elif not part.startswith("--"):
            yield from in_code(part, start)
    yield from deleted(line, following)


def in_code(part: str, start: int) -> Iterator[tuple[int, int, str]]:
    """Swap operators, and raise limits by one."""
    for pattern, become in CODE:
        for found in pattern.finditer(part):
            yield start + found.start(), start + found.end(), become
    for found in LIMIT.finditer(part):
        yield start + found.start(), start + found.end(), str(int(found[0]) + 1)


def in_string(line: str, part: str, start: int) -> Iterator[tuple[int, int, str]]:
    """Put another state for a state, and another place for a place."""
    known = STATES if part[1:-1] in STATES else PLACES if PLACE.search(line[:start]) else ()
    if part[1:-1] in known:
        other = known[(known.index(part[1:-1]) + 1) % len(known)]
        yield start, start + len(part), f"'{other}'"


def deleted(line: str, following: str) -> Iterator[tuple[int, int, str]]:
    """Leave out a statement that is the whole line, or the whole branch of a condition on one line."""
    if GOES_ON.match(following) or not balanced(line):
        return
    whole = STATEMENT.fullmatch(line)
    if whole:
        yield whole.start(2), whole.end(2), ""
    for branch in BRANCH.finditer(line):
        if STATEMENT.fullmatch(branch[2]):
            yield branch.start(2), branch.end(2), ""


def balanced(line: str) -> bool:
    """Tell whether every bracket of a line is closed in it, and no list goes on."""
    bare = re.sub(STRING, "", line)
    return all(bare.count(one) == bare.count(other) for one, other in ("()", "{}")) and not bare.endswith(",")
