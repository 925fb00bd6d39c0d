"""What a write that fails leaves behind."""

from __future__ import annotations

from pathlib import Path

from llm_gateway.caches.dev import DevCache

KEY = f"{1:064x}"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An entry that cannot be put in its place leaves no half of itself in the directory."""
    in_the_way = tmp_path / f"{KEY}.json"
    in_the_way.mkdir()

    await DevCache(tmp_path).put(KEY, b"entry")

    assert [".gitignore", in_the_way.name] == names_in(tmp_path)
