"""What is done on each new connection: the server is examined, and told the scripts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from llm_gateway._core.findings import Finding
from llm_gateway._io.redis import Ask, Refused
from llm_gateway.errors import ConfigurationError, QueueUnavailable
from llm_gateway.queues.redis.rows import items, raw, text
from llm_gateway.queues.redis.scripts import Script, source_of
from llm_gateway.queues.redis.server import CONFIGURED, Server

__all__ = ["examine", "report", "teach"]

logger: Final = logging.getLogger("llm_gateway")


async def examine(ask: Ask) -> Server:
    """Ask a server what it is and how it is set up.

    Raises:
        ConfigurationError: the user or the password is refused.
        QueueUnavailable: it does not tell.
    """
    info, *settings = await ask(("INFO",), *(("CONFIG", "GET", name) for name in CONFIGURED))
    if isinstance(info, Refused):
        raise unwelcome(info)
    lines = (line.partition(":") for line in text(info).splitlines())
    # Managed servers refuse CONFIG: what is not told is reported as unknown.
    pairs = (items(reply) for reply in settings if not isinstance(reply, Refused))
    config = {raw(pair[0]).decode(): raw(pair[1]).decode() for pair in pairs if pair}
    return Server({name: value for name, colon, value in lines if colon}, config)


async def teach(ask: Ask, *, flags: bool) -> None:
    """Give a server every script, so that each call need only name it.

    Raises:
        ConfigurationError: this user may not run scripts, or the server refuses one.
    """
    texts = [source_of(script, flags=flags).text for script in Script]
    for reply in await ask(*(("SCRIPT", "LOAD", source) for source in texts)):
        if isinstance(reply, Refused):
            raise unwelcome(reply)


def report(findings: Sequence[Finding], *, strict: bool) -> None:
    """Warn of what was found, or refuse.

    Raises:
        ConfigurationError: the server would not keep what it is given, and *strict* is set.
    """
    failures = [finding for finding in findings if finding.level == "failure"]
    if failures and strict:
        told = "; ".join(f"{finding.name} is {finding.detail}" for finding in failures)
        steps = " ".join(finding.next_step for finding in failures)
        message = f"The Redis server would not keep what it is given: {told}."
        raise ConfigurationError(message, next_step=steps)
    for finding in findings:
        if finding.level != "ok":
            logger.warning("Redis: %s is %s. %s", finding.name, finding.detail, finding.next_step)


def unwelcome(reply: Refused) -> ConfigurationError | QueueUnavailable:
    """Say why a server does not serve."""
    if reply.code in {"NOPERM", "NOAUTH", "WRONGPASS"}:
        message = f"The Redis server refuses this user ({reply.code})."
        step = "Give the URL a user that may run scripts and read and write the keys of the namespace."
        return ConfigurationError(message, next_step=step)
    return QueueUnavailable(f"The Redis server does not serve now ({reply.code}).")
