"""Shape of the modules: no cycle, no catch-all, a declared surface, no work at import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import grimp
import pytest

import llm_gateway

ROOT: Final = Path(__file__).parents[2]
SOURCE: Final = ROOT / "src" / "llm_gateway"
MODULES: Final = sorted(SOURCE.rglob("*.py"))
CATCH_ALLS: Final = {"base", "common", "helpers", "misc", "types", "util", "utils"}

each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))


def test_no_imports_go_in_a_circle() -> None:
    """The import graph has no cycle, imports inside functions and for type checking included."""
    graph = grimp.build_graph("llm_gateway", cache_dir=None, exclude_type_checking_imports=False)
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # A cycle raises CycleError, which names the modules on it.
    assert len(arrows) == len(list(TopologicalSorter(arrows).static_order()))


@each_module
def test_no_module_is_a_catch_all(path: Path) -> None:
    """A module is named after what it holds."""
    assert path.stem.strip("_") not in CATCH_ALLS


@each_module
def test_every_module_declares_what_it_offers(path: Path) -> None:
    """A module with anything in it has ``__all__``; ruff keeps it sorted and true."""
    assert "__all__" in assigned(path) or not defines_anything(path)


@each_module
def test_only_the_root_imports_for_type_checking(path: Path) -> None:
    """What a type checker sees is what runs; the root alone tells it what loads on first use."""
    names = {node.id for node in ast.walk(parse(path)) if isinstance(node, ast.Name)}
    assert "TYPE_CHECKING" not in names or path == SOURCE / "__init__.py"


@each_module
def test_importing_reads_no_settings(path: Path) -> None:
    """No settings are built while a module is imported."""
    built = [node.lineno for node in at_import(parse(path)) if called_name(node).endswith("Settings")]
    assert [] == built


@each_module
def test_no_error_is_swallowed(path: Path) -> None:
    """A broad ``except`` does something with what it caught."""
    swallowed = [
        node.lineno
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ExceptHandler) and is_broad(node) and isinstance(node.body[0], ast.Pass)
    ]
    assert [] == swallowed


def test_the_root_loads_what_it_promises_to_type_checkers() -> None:
    """The names that load on first use are those that the type checkers see."""
    imports = [node for node in ast.walk(parse(SOURCE / "__init__.py")) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("llm_gateway")]
    assert sorted(llm_gateway.__all__) == sorted(alias.name for node in ours for alias in node.names)


def parse(path: Path) -> ast.Module:
    """Read a module as a syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


def assigned(path: Path) -> set[str]:
    """Return the names assigned at the top of a module."""
    targets: list[ast.expr] = []
    for node in parse(path).body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    return {target.id for target in targets if isinstance(target, ast.Name)}


def defines_anything(path: Path) -> bool:
    """Whether a module holds more than its docstring and imports."""
    return any(not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom) for node in parse(path).body)


def at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that run while a module is imported: all but those inside functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from at_import(child)


def called_name(call: ast.Call) -> str:
    """Return the last part of the name that is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether an ``except`` catches everything."""
    if handler.type is None:
        return True
    return isinstance(handler.type, ast.Name) and handler.type.id in {"BaseException", "Exception"}
