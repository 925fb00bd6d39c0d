"""``llm-gateway doctor``: whether the promises hold where this runs."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from llm_gateway._core.findings import Finding, Level
from llm_gateway._core.jobs import LaneStats, QueueStats
from llm_gateway._engine import HEARTBEAT_FRESH
from llm_gateway.cli.documents import finding_document
from llm_gateway.cli.showing import Table, age, show, show_json
from llm_gateway.client import LLMClient
from llm_gateway.errors import LLMGatewayError
from llm_gateway.protocols import PayloadCodec, QueueBackend
from llm_gateway.settings import Settings, settings_of_process, unknown_variables
from llm_gateway.wiring import WiredQueue, wire_queue

__all__ = ["run_doctor"]

KEY = "_api_key"
NEWEST = 20


@runtime_checkable
class Examined(Protocol):
    """A queue that tells how it was found."""

    @property
    def findings(self) -> Sequence[Finding]:
        """What was looked at, each with name, level, detail and next step."""
        ...


def run_doctor(options: Namespace) -> int:
    """Check everything and show it; return 1 when something has failed."""
    findings = asyncio.run(examine())
    failed = any(finding.level == "failure" for finding in findings)
    if options.json:
        show_json({"ok": not failed, "checks": [finding_document(finding) for finding in findings]})
    else:
        rows = [(finding.level, finding.name, finding.detail, finding.next_step) for finding in findings]
        show(Table(("level", "check", "found", "next step"), rows))
    return int(failed)


async def examine() -> list[Finding]:
    """Look at environment, settings and queue. No provider is asked and no file is made."""
    try:
        settings = settings_of_process()
    except LLMGatewayError as error:
        return [_failure("settings", error)]
    return [*_of_settings(settings), *await _of_queue(settings)]


def _of_settings(settings: Settings) -> Iterable[Finding]:
    environment = settings.environment
    rules = "every promise is enforced" if environment.strict else "mock, replays and a memory queue are allowed"
    yield Finding("environment", "ok", f"{environment.value}: {rules}")
    yield Finding("settings", "ok", f"set: {', '.join(sorted(settings.model_fields_set)) or 'none'}")
    yield _variables(unknown_variables())
    yield _guarantees(settings)
    yield _providers(settings)
    yield _cache(settings)


def _variables(unknown: Sequence[str]) -> Finding:
    if not unknown:
        return Finding("variables", "ok", "none is misspelt")
    return Finding("variables", "warning", f"no setting: {', '.join(unknown)}", "Correct the name, or unset it.")


def _guarantees(settings: Settings) -> Finding:
    try:
        # Constructing opens nothing, and refuses whatever the environment forbids.
        LLMClient.from_settings(settings)
    except LLMGatewayError as error:
        return _failure("guarantees", error)
    return Finding("guarantees", "ok", f"a client can be built for {settings.environment.value}")


def _providers(settings: Settings) -> Finding:
    keys = [name for name in type(settings).model_fields if name.endswith(KEY)]
    named = [name.removesuffix(KEY) for name in keys if getattr(settings, name) is not None]
    if named:
        return Finding("providers", "ok", ", ".join(named))
    step = f"Set a provider's key, such as LLM_GATEWAY_{keys[0].upper()}."
    if settings.environment.strict:
        return Finding("providers", "failure", "none has a key", step)
    return Finding("providers", "warning", "none has a key: only the mock answers", step)


def _cache(settings: Settings) -> Finding:
    if not settings.dev_cache:
        return Finding("cache", "ok", "none: every answer is fresh")
    level = _forbidden(strict=settings.environment.strict)
    return Finding("cache", level, "answers are replayed", "Unset LLM_GATEWAY_DEV_CACHE.")


async def _of_queue(settings: Settings) -> list[Finding]:
    try:
        wired = wire_queue(settings)
    except LLMGatewayError as error:
        return [_failure("queue", error)]
    queue = wired.queue
    if queue is None:
        return [Finding("queue", "warning", "none: an outage is an error, not a ticket", "Set LLM_GATEWAY_QUEUE.")]
    return [
        _codec(settings, sealed=wired.codec.sealed, name=type(wired.codec).__name__),
        _durability(settings, queue),
        *(_findings(queue) if _is_missing(wired) else await _opened(queue, wired.codec)),
    ]


def _is_missing(wired: WiredQueue) -> bool:
    # Opening would make the file, for whoever runs this. Where its folder is missing too, opening tells what is wrong.
    return wired.file is not None and wired.file.parent.is_dir() and not wired.file.exists()


def _codec(settings: Settings, *, sealed: bool, name: str) -> Finding:
    if sealed:
        return Finding("codec", "ok", f"{name}: payloads are sealed")
    broken = settings.environment.strict and not settings.allow_plaintext_queue
    step = "Seal payloads, or accept it with LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE=true."
    return Finding("codec", _forbidden(strict=broken), f"{name}: prompts are stored as plain text", step)


def _durability(settings: Settings, queue: QueueBackend) -> Finding:
    name = type(queue).__name__
    if queue.durable:
        return Finding("queue", "ok", f"{name}: tickets survive the process")
    level = _forbidden(strict=settings.environment.strict)
    return Finding("queue", level, f"{name}: tickets are lost with the process", "Set LLM_GATEWAY_QUEUE.")


async def _opened(queue: QueueBackend, codec: PayloadCodec) -> list[Finding]:
    try:
        await queue.start(outbox=False)
        try:
            stats, sealed = await queue.stats(), await _unsealed(queue, codec)
        finally:
            await queue.aclose()
    except LLMGatewayError as error:
        return [_failure("queue.open", error), *_findings(queue)]
    told = Finding("queue.open", "ok", f"{stats.depth} tickets wait or run")
    return [told, *_findings(queue), *sealed, *_of_stats(stats)]


async def _unsealed(queue: QueueBackend, codec: PayloadCodec) -> list[Finding]:
    """Try the keys on the newest ticket; nothing of what it holds is shown."""
    for job in await queue.list_jobs(limit=NEWEST):
        payload = await queue.payload(job.tenant, job.ticket_id)
        if payload is None:
            continue
        try:
            await codec.open(payload, tenant=job.tenant, ticket_id=job.ticket_id, kind="payload")
        except LLMGatewayError as error:
            return [_failure("keys", error)]
        return [Finding("keys", "ok", "the newest ticket can be opened")]
    return []


def _findings(queue: QueueBackend) -> list[Finding]:
    if not isinstance(queue, Examined):
        return []
    # Copied field by field: a queue may bring findings of a type of its own.
    return [Finding(found.name, found.level, found.detail, found.next_step) for found in queue.findings]


def _of_stats(stats: QueueStats) -> Iterable[Finding]:
    shut = [f"{lane.lane} ({lane.gate.parked})" for lane in stats.lanes if lane.gate.parked is not None]
    shut += [f"{lane.lane} (paused)" for lane in stats.lanes if lane.gate.paused]
    shut += [f"{lane.lane} ({lane.parked} tickets)" for lane in stats.lanes if lane.parked and not lane.gate.parked]
    yield _expect_none("lanes", shut, "wait for an operator", "Mend the cause, then: llm-gateway lane resume LANE.")
    out = [f"{lane.lane} ({lane.gate.circuit})" for lane in stats.lanes if lane.gate.circuit != "closed"]
    yield _expect_none("circuits", out, "out", "Workers probe by themselves; see how the provider is.")
    dead = [f"{lane.lane} ({lane.dead})" for lane in stats.lanes if lane.dead]
    yield _expect_none("dead letters", dead, "failed", "Look: llm-gateway queue list --state failed.")
    idle = [f"{lane.lane} ({_seen(lane)})" for lane in stats.lanes if _is_alone(lane)]
    yield _expect_none("workers", idle, "wait for one", "Start one: llm-gateway worker.")
    full = stats.outbox * 2 > stats.max_depth
    step = "See that the service that publishes events runs." if full else ""
    yield Finding("outbox", "warning" if full else "ok", f"{stats.outbox} events to publish", step)


def _seen(lane: LaneStats) -> str:
    return "none was seen" if lane.last_heartbeat_at is None else f"seen {age(lane.last_heartbeat_at)} ago"


def _is_alone(lane: LaneStats) -> bool:
    """Whether requests of a lane wait and no worker has shown up lately."""
    seen = lane.last_heartbeat_at
    return lane.ready + lane.delayed > 0 and (seen is None or seen < datetime.now(UTC) - HEARTBEAT_FRESH)


def _expect_none(name: str, found: Sequence[str], what: str, next_step: str) -> Finding:
    return (
        Finding(name, "warning", f"{what}: {', '.join(found)}", next_step)
        if found
        else Finding(name, "ok", f"none {what}")
    )


def _forbidden(*, strict: bool) -> Level:
    return "failure" if strict else "warning"


def _failure(name: str, error: LLMGatewayError) -> Finding:
    return Finding(name, "failure", error.message, error.next_step)
