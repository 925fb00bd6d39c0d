"""What the text of the project keeps to."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TREES: Final = ("src", "tests", "examples", "bench", "docs", ".ci")
SUFFIXES: Final = {"", ".cfg", ".json", ".md", ".py", ".pyi", ".toml", ".txt", ".yaml", ".yml"}
# What tools leave in the checkout of a developer (.git is a file in a linked one), and this file, which names what it
# forbids.
LEFT_OUT: Final = {".coverage", ".git", ".pdm-python", Path(__file__).name}
PLACES: Final = (ROOT.glob("*"), *((ROOT / tree).rglob("*") for tree in TREES))
TEXTS: Final = sorted(
    path
    for place in PLACES
    for path in place
    if path.is_file() and path.suffix in SUFFIXES and path.name not in LEFT_OUT
)
TEST_FILES: Final = sorted((ROOT / "tests").rglob("test_*.py"))

# Each is a thing that works on one machine only, or that hides a fault.
FORBIDDEN: Final = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:home|root|Users|work)/"),
    "a package index": re.compile(r"pypi\.org|pythonhosted|index-url|find-links|npmjs"),
    "a silenced linter": re.compile(r"#\s*noqa|#\s*ruff:\s*noqa"),
    "a silenced type checker": re.compile(r"#\s*(?:type|pyright|basedpyright|mypy):\s*ignore"),
    "an emoji": re.compile(r"[\U0001F300-\U0001FAFF\u2600-\u26FF\u2728\u2705\u274C]"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds_what_is_forbidden(what: str) -> None:
    """No file names a machine's path or a package index, silences a checker, or has an emoji."""
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in TEXTS
        if (match := FORBIDDEN[what].search(path.read_text(encoding="utf-8"))) is not None
    ]
    assert [] == found


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_test_states_its_behaviour_in_one_sentence(path: Path) -> None:
    """The docstring of a test is one sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    tests = [function for function in functions if function.name.startswith("test_")]
    assert [] == [test.name for test in tests if not is_one_sentence(ast.get_docstring(test))]


def is_one_sentence(text: str | None) -> bool:
    """Whether *text* ends with a full stop and has none before a new sentence."""
    if text is None:
        return False
    line = " ".join(text.split())
    return line.endswith(".") and re.search(r"[.!?] [A-Z]", line) is None
