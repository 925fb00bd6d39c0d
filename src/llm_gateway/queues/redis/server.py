"""What the server is and how it is set up: what it says of itself, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llm_gateway._core.findings import Finding, Level
from llm_gateway._io.redis import Command
from llm_gateway.options import QueueOptions, RedisOptions

__all__ = ["Server", "judge"]

WITH_FLAGS: Final = (7, 0)
WITH_WAITAOF: Final = (7, 2)
OLDEST: Final = (6, 2)
HEADROOM: Final = 1.25
CONFIGURED: Final = (
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "min-replicas-to-write",
    "stop-writes-on-bgsave-error",
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server by its own account.

    Attributes:
        info: What ``INFO`` says.
        config: What ``CONFIG GET`` says of the settings that matter; empty where that is not permitted.
    """

    info: Mapping[str, str]
    config: Mapping[str, str]

    @property
    def version(self) -> tuple[int, ...]:
        """Its version; of a server that speaks as an older one, the version it speaks as."""
        numbers = self.info.get("redis_version", "0").split(".")[:3]
        return tuple(int(number) for number in numbers if number.isdigit())

    @property
    def flags(self) -> bool:
        """Whether it takes scripts with flags."""
        return self.version >= WITH_FLAGS

    def barrier(self, options: RedisOptions) -> Command | None:
        """Return the command that waits for disks and replicas; ``None`` where nothing can be waited for."""
        milliseconds = round(options.wait_timeout * 1000)
        copies = options.replicas if options.durability == "replicated" else 0
        if options.durability == "process":
            return None
        if self.version >= WITH_WAITAOF:
            return ("WAITAOF", 1, copies, milliseconds)
        return ("WAIT", copies, milliseconds) if copies else None


def judge(server: Server, options: QueueOptions, redis: RedisOptions) -> Sequence[Finding]:
    """Check that a server keeps what it is given. No I/O."""
    info = server.info
    findings = [
        _version(server),
        _expect("role", info.get("role"), "master", "Connect to the primary; a replica takes no writes."),
        _expect("loading", info.get("loading"), "0", "Wait until the server has read its data."),
        _policy(info.get("maxmemory_policy")),
        _room(info.get("maxmemory"), options),
    ]
    if redis.durability != "process":
        findings += _file(server)
    if redis.durability == "replicated":
        findings.append(_replicas(info.get("connected_slaves"), redis))
    return findings


def _version(server: Server) -> Finding:
    said = server.info.get("redis_version", "unknown")
    if server.version < OLDEST:
        return Finding("version", "failure", said, "Run Redis 6.2 or newer, or Valkey.")
    if server.version < WITH_WAITAOF:
        return Finding("version", "ok", f"{said}; from 7.2 on each write can be followed to the disk")
    return Finding("version", "ok", said)


def _expect(name: str, found: str | None, wanted: str, step: str, *, otherwise: Level = "failure") -> Finding:
    if found is None:
        return Finding(name, "unknown", "not told by the server", f"See to it that it is {wanted}.")
    return Finding(name, "ok", found) if found == wanted else Finding(name, otherwise, found, step)


def _policy(found: str | None) -> Finding:
    step = "Set maxmemory-policy noeviction: any other lets the server throw requests away."
    return _expect("maxmemory-policy", found, "noeviction", step)


def _room(found: str | None, options: QueueOptions) -> Finding:
    if found is None:
        return Finding("maxmemory", "unknown", "not told by the server", "See to it that the queue fits.")
    least = int(options.max_bytes * HEADROOM)
    if found == "0":
        return Finding("maxmemory", "ok", "no limit")
    if int(found) >= least:
        return Finding("maxmemory", "ok", f"{found} bytes")
    step = f"Set maxmemory to at least {least} bytes, or lower max_bytes of the queue options."
    return Finding("maxmemory", "failure", f"{found} bytes for a queue of up to {options.max_bytes}", step)


def _file(server: Server) -> list[Finding]:
    info, config = server.info, server.config
    findings = [
        _expect("appendonly", info.get("aof_enabled"), "1", "Set appendonly yes: without it a restart loses requests."),
        _expect("last write of the file", info.get("aof_last_write_status"), "ok", "See to the server's disk."),
        _expect(
            "no-appendfsync-on-rewrite",
            config.get("no-appendfsync-on-rewrite"),
            "no",
            "Set no-appendfsync-on-rewrite no: otherwise a rewrite suspends the promise.",
        ),
        _expect(
            "stop-writes-on-bgsave-error",
            config.get("stop-writes-on-bgsave-error"),
            "yes",
            "Set stop-writes-on-bgsave-error yes.",
            otherwise="warning",
        ),
    ]
    # Where each write is followed to the disk, how often the server syncs by itself decides only how long that takes.
    followed = server.version >= WITH_WAITAOF
    step = "Set appendfsync always, run Redis 7.2 or newer, or choose durability='process'."
    fsync = config.get("appendfsync")
    if followed and fsync == "everysec":
        findings.append(Finding("appendfsync", "ok", "everysec; each write is waited for, which takes up to a second"))
    else:
        findings.append(_expect("appendfsync", fsync, "always", step))
    return findings


def _replicas(found: str | None, redis: RedisOptions) -> Finding:
    if found is None:
        return Finding("replicas", "unknown", "not told by the server")
    if int(found) >= redis.replicas:
        return Finding("replicas", "ok", f"{found} connected")
    step = "Connect the replicas, lower replicas of the Redis options, or choose durability='disk'."
    return Finding("replicas", "failure", f"{found} connected of {redis.replicas} wanted", step)
