"""What the queue knows of a job."""

from __future__ import annotations

from datetime import UTC, datetime

from llm_gateway._core.jobs import JobView, Lane
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import Priority

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_job_shows_everything_but_its_echo() -> None:
    """The echo is the caller's own and may be personal: it is in no log."""
    view = JobView(
        ticket_id="t-1",
        tenant="school-1",
        lane=Lane("p", "m"),
        state=TicketState.QUEUED,
        version=1,
        priority=Priority.BATCH,
        idempotency_key="k",
        fingerprint="f",
        created_at=NOW,
        expires_at=NOW,
        updated_at=NOW,
        echo=b"secret",
    )
    assert "secret" not in repr(view)
    assert repr(view).startswith("JobView(ticket_id='t-1', tenant='school-1', lane=Lane(")
    assert "requeued_from=None" in repr(view)
