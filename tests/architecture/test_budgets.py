"""Sizes: small files, short functions, a small shop window, a short README."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median
from typing import Final

import pytest

import llm_gateway

ROOT: Final = Path(__file__).parents[2]
TREES: Final = ("src", "tests", "examples", "bench", "docs")

MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60
MAX_MEDIAN_FILE_LINES: Final = 120
MAX_MEDIAN_FUNCTION_LINES: Final = 10
MAX_ROOT_NAMES: Final = 30
MAX_README_WORDS: Final = 450


@pytest.mark.parametrize("tree", TREES)
def test_no_file_is_longer_than_the_budget(tree: str) -> None:
    """A file has at most 400 lines."""
    too_long = {str(path): lines for path, lines in file_lengths(tree).items() if lines > MAX_FILE_LINES}
    assert {} == too_long


@pytest.mark.parametrize("tree", TREES)
def test_no_function_is_longer_than_the_budget(tree: str) -> None:
    """A function has at most 60 lines."""
    too_long = {name: lines for name, lines in function_lengths(tree).items() if lines > MAX_FUNCTION_LINES}
    assert {} == too_long


def test_the_typical_file_is_small() -> None:
    """Half of the source files have at most 120 lines."""
    assert median(file_lengths("src").values()) <= MAX_MEDIAN_FILE_LINES


def test_the_typical_function_is_small() -> None:
    """Half of the functions of the source have at most 10 lines."""
    assert median(function_lengths("src").values()) <= MAX_MEDIAN_FUNCTION_LINES


def test_the_root_is_a_shop_window() -> None:
    """The root offers at most 30 names, and each can be had."""
    names = llm_gateway.__all__
    assert len(names) <= MAX_ROOT_NAMES
    assert [] == [name for name in names if not hasattr(llm_gateway, name)]


def test_the_readme_is_short() -> None:
    """The README has at most 450 words."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= MAX_README_WORDS


def file_lengths(tree: str) -> dict[Path, int]:
    """Count the lines of each Python file of a tree."""
    files = sorted((ROOT / tree).rglob("*.py"))
    return {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in files}


def function_lengths(tree: str) -> dict[str, int]:
    """Count the lines of each function of a tree, docstrings included."""
    return {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in file_lengths(tree)
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
