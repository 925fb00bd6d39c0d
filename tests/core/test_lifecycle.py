"""The life of a ticket keeps its two rules."""

from __future__ import annotations

import pytest

from llm_gateway._core.lifecycle import TERMINAL, TRANSITIONS, TicketState, Trigger

LIVE = sorted(set(TicketState) - TERMINAL)


def reachable(start: TicketState) -> set[TicketState]:
    """Return every state that some triggers lead to from *start*."""
    seen, todo = set[TicketState](), [start]
    while todo:
        here = todo.pop()
        for (source, _), target in TRANSITIONS.items():
            if source is here and target not in seen:
                seen.add(target)
                todo.append(target)
    return seen


def test_nothing_leaves_a_terminal_state() -> None:
    """No transition starts in a terminal state."""
    assert [pair for pair in TRANSITIONS if pair[0] in TERMINAL] == []


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_every_end_can_be_reached(state: TicketState, end: TicketState) -> None:
    """From every state that is not terminal, each terminal state can be reached."""
    assert end in reachable(state)


@pytest.mark.parametrize("state", LIVE)
@pytest.mark.parametrize("trigger", [Trigger.EXPIRED, Trigger.CANCELLED])
def test_time_and_caller_can_always_end_it(state: TicketState, trigger: Trigger) -> None:
    """Whatever a live ticket is doing, its time to live and its caller can end it in one step."""
    assert TRANSITIONS[state, trigger].terminal


def test_every_trigger_moves_something() -> None:
    """No trigger is without a transition."""
    assert {trigger for _, trigger in TRANSITIONS} == set(Trigger)


def test_work_ends_only_what_was_claimed() -> None:
    """Only a processing ticket is completed or failed."""
    ends = {TicketState.COMPLETED, TicketState.FAILED}
    assert {source for (source, _), target in TRANSITIONS.items() if target in ends} == {TicketState.PROCESSING}


def test_terminal_states_say_so() -> None:
    """``terminal`` is true of completed, failed, expired and cancelled, and of nothing else."""
    assert {state.value for state in TicketState if state.terminal} == {"completed", "failed", "expired", "cancelled"}
