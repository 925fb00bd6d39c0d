"""Decisions that every queue backend shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llm_gateway._core.jobs import JobView, Lane, LaneGate, Release
from llm_gateway._core.lifecycle import TicketState, Trigger
from llm_gateway._core.requests import Priority
from llm_gateway._core.settlement import allowance, lapse, settle

NOW = datetime(2030, 1, 1, tzinfo=UTC)
VIEW = JobView(
    ticket_id="t",
    tenant="",
    lane=Lane("p", "m"),
    state=TicketState.PROCESSING,
    version=2,
    priority=Priority.BATCH,
    idempotency_key="k",
    fingerprint="f",
    created_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    updated_at=NOW,
)


@pytest.mark.parametrize(
    ("gate", "count", "in_flight", "expected"),
    [
        (LaneGate(), 3, 9, 3),
        (LaneGate(), -1, 0, 0),
        (LaneGate(circuit="half_open"), 3, 0, 3),
        (LaneGate(circuit="open"), 3, 0, 0),
        (LaneGate(paused=True), 3, 0, 0),
        (LaneGate(parked="needs_operator"), 3, 0, 0),
        (LaneGate(not_before=NOW + timedelta(seconds=1)), 3, 0, 0),
        (LaneGate(not_before=NOW), 3, 0, 3),
        (LaneGate(max_in_flight=5), 3, 0, 3),
        (LaneGate(max_in_flight=5), 3, 4, 1),
        (LaneGate(max_in_flight=5), 3, 7, 0),
    ],
)
def test_gate_lets_through(gate: LaneGate, count: int, in_flight: int, expected: int) -> None:
    """A gate gives what is asked for, bounded by its cap, or nothing while it is shut."""
    assert allowance(gate, count, in_flight, NOW) == expected


def test_release_without_delay_sets_no_time() -> None:
    """A job that is released at once waits for nothing."""
    assert settle(VIEW, Release(reason="shutdown"), NOW).view.not_before is None


def test_release_with_delay_sets_a_time() -> None:
    """A job that is released for later waits until then."""
    assert settle(VIEW, Release(reason="shutdown", delay=2.5), NOW).view.not_before == NOW + timedelta(seconds=2.5)


@pytest.mark.parametrize(("cap", "trigger"), [(1, Trigger.CRASHED_TOO_OFTEN), (2, Trigger.LEASE_LAPSED)])
def test_crashes_reach_their_cap(cap: int, trigger: Trigger) -> None:
    """The crash that reaches the cap ends the job, one before it does not."""
    decided = lapse(VIEW, None, cap)
    assert (decided.trigger, decided.view.crashes, decided.view.history) == (trigger, 1, ())


def test_deciding_moves_neither_state_nor_version() -> None:
    """State and version are left to the one place that applies a transition."""
    view = settle(VIEW, Release(reason="shutdown"), NOW).view
    assert (view.state, view.version) == (VIEW.state, VIEW.version)
