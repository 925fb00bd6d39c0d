"""The JSON documents of the commands. Their names are kept: programs read them."""

from __future__ import annotations

from collections.abc import Mapping

from llm_gateway._core.findings import Finding
from llm_gateway._core.jobs import JobError, JobView, LaneStats, QueueStats
from llm_gateway._facts import Attempt

__all__ = ["Document", "finding_document", "job_document", "lane_document", "stats_document"]

Document = Mapping[str, object]


def job_document(job: JobView) -> Document:
    """Describe a ticket, without what was asked and without what is echoed."""
    return {
        "ticket_id": job.ticket_id,
        "tenant": job.tenant,
        "lane": str(job.lane),
        "state": job.state,
        "reason": job.reason,
        "priority": job.priority,
        "group": job.group,
        "subjects": job.subjects,
        "idempotency_key": job.idempotency_key,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "not_before": job.not_before,
        "expires_at": job.expires_at,
        "version": job.version,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "position": job.position,
        "requeued_from": job.requeued_from,
        "error": None if job.error is None else _error_document(job.error),
        "history": [_attempt_document(attempt) for attempt in job.history],
    }


def _error_document(error: JobError) -> Document:
    return {
        "type": error.type,
        "message": error.message,
        "fault": error.fault,
        "code": error.code,
        "status": error.status,
    }


def _attempt_document(attempt: Attempt) -> Document:
    return {
        "id": attempt.id,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "fault": attempt.fault,
        "provider_request_id": attempt.provider_request_id,
        "sent": attempt.sent,
        "possibly_billed": attempt.possibly_billed,
    }


def lane_document(stats: LaneStats) -> Document:
    """Describe a lane. ``parked`` counts its parked tickets; ``gate.parked`` says why the whole lane is."""
    return {
        "lane": str(stats.lane),
        "ready": stats.ready,
        "delayed": stats.delayed,
        "processing": stats.processing,
        "parked": stats.parked,
        "dead": stats.dead,
        "oldest_created_at": stats.oldest_created_at,
        "last_heartbeat_at": stats.last_heartbeat_at,
        "gate": {
            "circuit": stats.gate.circuit,
            "not_before": stats.gate.not_before,
            "max_in_flight": stats.gate.max_in_flight,
            "paused": stats.gate.paused,
            "parked": stats.gate.parked,
        },
    }


def stats_document(stats: QueueStats) -> Document:
    """Describe the queue."""
    return {
        "depth": stats.depth,
        "max_depth": stats.max_depth,
        "bytes": stats.bytes,
        "max_bytes": stats.max_bytes,
        "outbox": stats.outbox,
        "outbox_oldest_at": stats.outbox_oldest_at,
        "oldest_created_at": stats.oldest_created_at,
        "lanes": [lane_document(lane) for lane in stats.lanes],
    }


def finding_document(finding: Finding) -> Document:
    """Describe one row of an examination."""
    return {
        "name": finding.name,
        "level": finding.level,
        "detail": finding.detail,
        "next_step": finding.next_step or None,
    }
