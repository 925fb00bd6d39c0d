"""The rules by which scripts are changed."""

from __future__ import annotations

import pytest
from tests.mutants.rules import mutants_of


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("if a == b then", ["if a ~= b then"]),
        ("if a <= b then", ["if a < b then"]),
        ("if a > b then", ["if a >= b then"]),
        ("if not a and b then", ["if not a or b then", "if a and b then"]),
        ("local n = m + 1", ["local n = m + 0", "local n = m - 1"]),
        ("local n = t[2]", []),
        ("local most = 256", ["local most = 257"]),
        ("local s = 'Q'", ["local s = 'P'"]),
        ("local s = 'and == 7'", []),
        ("  job.y = 'k'", ["  job.y = 'r'", "  "]),
        ("  redis.call('DEL', key)", ["  "]),
        ("else commit() end", ["else  end"]),
        ("return answer(1)", []),
        ("-- a == b", []),
        ("local a = b -- and c", []),
    ],
)
def test_each_point_is_changed_once(line: str, changed: list[str]) -> None:
    """Each operator, limit, state and statement is changed by itself; comments, strings and indices are left alone."""
    assert changed == [mutant.text for mutant in mutants_of("some.lua", line)]


def test_statement_over_two_lines_is_kept() -> None:
    """A statement that goes on in the next line is not deleted by halves."""
    assert [] == list(mutants_of("some.lua", "x = a\n  .. b"))


def test_mutant_tells_where_it_is() -> None:
    """A mutant names its file, line and column, and holds the rest of the script unchanged."""
    (mutant,) = mutants_of("some.lua", "local a\n  if b == c then\nend")
    assert ("some.lua", 2, "if b == c then :: 6 == -> ~=") == (mutant.file, mutant.line, mutant.name)
    assert "local a\n  if b ~= c then\nend" == mutant.text
