"""Answers kept in files, so that a rerun in development replays without paying. Never built in production."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from anyio import to_thread

from llm_gateway._core.environments import WORKSHOP, Environment
from llm_gateway.errors import ConfigurationError
from llm_gateway.protocols import ResponseCache

__all__ = ["DEFAULT_DIRECTORY", "DEFAULT_MAX_BYTES", "DevCache"]

T = TypeVar("T")
DEFAULT_DIRECTORY: Final = ".llm_gateway_cache"
DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
VERSION: Final = 1
KEY: Final = re.compile(r"[0-9a-f]{64}")
SUFFIX: Final = ".json"
PARTIAL: Final = ".partial"
logger = logging.getLogger(__name__)


class DevCache(ResponseCache):
    """One file for each answer.

    A file that is damaged is a miss and is removed. A disk that is full or not writable costs the replay, never
    the answer: it is logged once.

    Args:
        directory: Where the files are, relative to the working directory unless it is absolute. It is made when
            the first answer is stored, with a ``.gitignore`` that keeps it out of version control.
        max_bytes: Most bytes of all files; the oldest go first.

    Raises:
        ConfigurationError: *max_bytes* is below 1, or *directory* is empty.
    """

    def __init__(self, directory: str | Path = DEFAULT_DIRECTORY, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        if max_bytes < 1 or not str(directory).strip():
            message = "DevCache needs a directory and max_bytes of 1 or more."
            raise ConfigurationError(message)
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._warned = False

    def __repr__(self) -> str:
        return f"DevCache({str(self._directory)!r}, max_bytes={self._max_bytes})"

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Development and testing."""
        return WORKSHOP

    async def get(self, key: str) -> bytes | None:
        """Return what was stored under *key*, a SHA-256 digest in hexadecimal.

        Raises:
            ValueError: *key* is no such digest.
        """
        path = self._path(key)
        return await self._off_loop(lambda: _read(path, key), None)

    async def put(self, key: str, entry: bytes) -> None:
        """Store *entry* under *key*, a SHA-256 digest in hexadecimal.

        Raises:
            ValueError: *key* is no such digest.
        """
        path = self._path(key)
        await self._off_loop(lambda: self._write(path, key, entry), None)

    async def clear(self) -> int:
        """Remove all answers and return how many there were."""
        return await self._off_loop(self._remove_all, 0)

    def _path(self, key: str) -> Path:
        # The key becomes a file name: nothing else may reach the file system.
        if KEY.fullmatch(key) is None:
            reason = "a cache key is 64 hexadecimal digits"
            raise ValueError(reason)
        return self._directory / f"{key}{SUFFIX}"

    async def _off_loop(self, work: Callable[[], T], failed: T) -> T:
        try:
            return await to_thread.run_sync(work)
        except OSError as error:
            self._warn_once(error)
            return failed

    def _warn_once(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("The development cache in %s cannot be used: %s", self._directory, error.strerror)

    def _write(self, path: Path, key: str, entry: bytes) -> None:
        data = _encode(key, entry)
        if len(data) > self._max_bytes:
            return
        self._make_directory()
        descriptor, name = tempfile.mkstemp(suffix=PARTIAL, dir=self._directory)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._evict()

    def _make_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = self._directory / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="ascii")

    def _evict(self) -> None:
        ages = sorted((_age_and_size(path), path) for path in self._entries())
        excess = sum(size for (_, size), _ in ages) - self._max_bytes
        for (_, size), path in ages:
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size

    def _entries(self) -> list[Path]:
        # Only names that this class gives: the directory may hold files of others.
        found = self._directory.glob(f"*{SUFFIX}")
        return [path for path in found if KEY.fullmatch(path.stem) is not None]

    def _remove_all(self) -> int:
        entries = self._entries()
        for path in (*entries, *self._directory.glob(f"tmp*{PARTIAL}")):
            path.unlink(missing_ok=True)
        return len(entries)


def _encode(key: str, entry: bytes) -> bytes:
    digest = hashlib.sha256(entry).hexdigest()
    stored = {"version": VERSION, "key": key, "sha256": digest, "entry": base64.b64encode(entry).decode()}
    return json.dumps(stored).encode()


def _read(path: Path, key: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    entry = _decode(data, key)
    if entry is None:
        path.unlink(missing_ok=True)
    return entry


def _decode(data: bytes, key: str) -> bytes | None:
    try:
        stored = json.loads(data)
        entry = base64.b64decode(stored["entry"], validate=True)
        known = (stored["version"], stored["key"], stored["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None
    return entry if known == (VERSION, key, hashlib.sha256(entry).hexdigest()) else None


def _age_and_size(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:  # another process removed it meanwhile
        return 0, 0
    return found.st_mtime_ns, found.st_size
