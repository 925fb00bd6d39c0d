"""The development cache on a real file system."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from llm_gateway._core.environments import WORKSHOP
from llm_gateway.caches.dev import DEFAULT_DIRECTORY, DevCache
from llm_gateway.errors import ConfigurationError

KEYS = tuple(f"{number:064x}" for number in range(8))


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("*.json")
    return path


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_what_is_put_is_got(tmp_path: Path) -> None:
    """An entry comes back byte for byte, also from another instance, and another key finds nothing."""
    await DevCache(tmp_path).put(KEYS[0], b"\x00 \xff entry")
    cache = DevCache(tmp_path)

    assert b"\x00 \xff entry" == await cache.get(KEYS[0])
    assert None is await cache.get(KEYS[1])


async def test_put_replaces(tmp_path: Path) -> None:
    """The latest entry of a key stands, and no partial file is left."""
    cache = DevCache(tmp_path)
    await cache.put(KEYS[0], b"old")
    await cache.put(KEYS[0], b"new")

    assert b"new" == await cache.get(KEYS[0])
    assert [".gitignore", f"{KEYS[0]}.json"] == names_in(tmp_path)


async def test_default_directory_is_relative_and_ignored_by_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default files are below the working directory, private, and kept out of version control."""
    monkeypatch.chdir(tmp_path)
    cache = DevCache()
    assert None is await cache.get(KEYS[0])
    assert [] == names_in(tmp_path)

    await cache.put(KEYS[0], b"entry")

    directory = tmp_path / DEFAULT_DIRECTORY
    assert "*\n" == (directory / ".gitignore").read_text()
    assert 0o700 == directory.stat().st_mode & 0o777


def test_only_in_development_and_testing(tmp_path: Path) -> None:
    """It may run in development and testing, and says where it keeps its files."""
    cache = DevCache("some/place", max_bytes=5)

    assert WORKSHOP == cache.allowed_in
    assert "DevCache('some/place', max_bytes=5)" == repr(cache)


@pytest.mark.parametrize("key", ["", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
async def test_keys_are_digests(tmp_path: Path, key: str) -> None:
    """Anything but a SHA-256 digest in hexadecimal is refused before it names a file."""
    cache = DevCache(tmp_path)

    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        await cache.get(key)
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        await cache.put(key, b"entry")
    assert [] == names_in(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b'{"version": 1, "key": "x", "sha256": "x", "entry": "!"}',
        b'{"version": 1, "key": "x", "sha256": "x", "entry": 3}',
    ],
)
async def test_damaged_files_are_misses(tmp_path: Path, damage: bytes) -> None:
    """A file that cannot be read as an entry is a miss, and is removed."""
    cache = DevCache(tmp_path)
    await cache.put(KEYS[0], b"entry")
    only_file(tmp_path).write_bytes(damage)

    assert None is await cache.get(KEYS[0])
    assert [".gitignore"] == names_in(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("version", 2), ("key", KEYS[1]), ("entry", "b3RoZXI="), ("sha256", "0")])
async def test_entries_of_others_are_misses(tmp_path: Path, name: str, value: object) -> None:
    """An entry of another version or key, or whose content changed, is a miss."""
    cache = DevCache(tmp_path)
    await cache.put(KEYS[0], b"entry")
    path = only_file(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    assert None is await cache.get(KEYS[0])


async def test_the_oldest_go_first(tmp_path: Path) -> None:
    """Above the size cap the oldest entries are removed until the rest fits."""
    await DevCache(tmp_path).put(KEYS[0], b"x" * 100)
    size = only_file(tmp_path).stat().st_size
    cache = DevCache(tmp_path, max_bytes=3 * size)
    for age, key in enumerate(KEYS[:3]):
        await cache.put(key, b"x" * 100)
        os.utime(tmp_path / f"{key}.json", (age, age))

    await cache.put(KEYS[3], b"x" * 100)

    assert [None, True, True, True] == [(await cache.get(key) is not None) or None for key in KEYS[:4]]


async def test_an_entry_above_the_cap_is_not_kept(tmp_path: Path) -> None:
    """An entry that alone exceeds the cap is not stored and pushes nothing out."""
    cache = DevCache(tmp_path, max_bytes=1000)
    await cache.put(KEYS[0], b"small")
    await cache.put(KEYS[1], b"x" * 2000)

    assert (b"small", None) == (await cache.get(KEYS[0]), await cache.get(KEYS[1]))


async def test_clear(tmp_path: Path) -> None:
    """Clearing removes its own entries and remains, nothing else, and tells how many there were."""
    cache = DevCache(tmp_path)
    assert 0 == await DevCache(tmp_path / "absent").clear()
    await cache.put(KEYS[0], b"one")
    await cache.put(KEYS[1], b"two")
    (tmp_path / "notes.json").write_text("mine")
    (tmp_path / "tmpabc.partial").write_text("left by a crash")

    assert 2 == await cache.clear()
    assert [".gitignore", "notes.json"] == names_in(tmp_path)


async def test_an_unusable_disk_costs_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be written or read, all is a miss, and one warning says so without naming an entry."""
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    cache = DevCache(blocked)

    with caplog.at_level(logging.WARNING):
        await cache.put(KEYS[0], b"secret")
        await cache.put(KEYS[1], b"secret")
        assert None is await cache.get(KEYS[0])

    assert 1 == len(caplog.records)
    assert "cannot be used" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(("directory", "max_bytes"), [("", 5), (" ", 5), ("x", 0)])
def test_impossible_settings(directory: str, max_bytes: int) -> None:
    """A cache without a directory or room cannot be made."""
    with pytest.raises(ConfigurationError, match="DevCache needs"):
        DevCache(directory, max_bytes=max_bytes)
