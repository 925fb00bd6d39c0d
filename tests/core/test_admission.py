"""When to retry, queue, park or fail, held against the rules as they are told in words."""

from __future__ import annotations

from itertools import product
from typing import Final

import pytest

from llm_gateway._core.admission import (
    ADMISSION,
    BreakerEffect,
    LiveAction,
    LiveDecision,
    Row,
    Situation,
    WorkerAction,
    WorkerDecision,
    decide_live,
    decide_worker,
    possibly_billed,
)
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._facts import Fault, Sent

# The rules once more, by hand, so that a slip in the table shows as a difference.
NEVER_HEALS: Final = {
    Fault.BROKEN_PART,
    Fault.LATCHED,
    Fault.QUOTA,
    Fault.KEY,
    Fault.MODEL_NOT_FOUND,
    Fault.FORBIDDEN,
    Fault.BAD_REQUEST,
    Fault.CONTEXT_TOO_LONG,
    Fault.RESPONSE_TOO_LARGE,
    Fault.MODEL_MISMATCH,
    Fault.MODEL_UNCHECKED,
    Fault.STALE_RESPONSE,
    Fault.INVALID_OUTPUT,
    Fault.CANCELLED,
}
RETRIED: Final = {
    Fault.LIMITED: 3,
    Fault.LOCAL_BUSY: 1,
    Fault.CONNECT: 2,
    Fault.STALE_CONNECTION: 1,
    Fault.DISCONNECTED: 2,
    Fault.SERVER_ERROR: 2,
    Fault.OVERLOADED: 1,
    Fault.MALFORMED: 1,
    Fault.RATE_LIMITED: 1,
    Fault.CONFLICT: 1,
}
PARKED: Final = {Fault.LATCHED, Fault.TLS, Fault.QUOTA, Fault.KEY, Fault.MODEL_NOT_FOUND}
DEAD: Final = NEVER_HEALS - PARKED - {Fault.BROKEN_PART, Fault.CANCELLED, Fault.MODEL_UNCHECKED, Fault.FORBIDDEN}
SPENT: Final = {
    Fault.DISCONNECTED,
    Fault.READ_TIMEOUT,
    Fault.DEADLINE,
    Fault.NO_ANSWER,
    Fault.FORBIDDEN,
    Fault.SERVER_ERROR,
    Fault.MODEL_UNCHECKED,
    Fault.MALFORMED,
    Fault.CONFLICT,
    Fault.UNKNOWN,
}
BILLED: Final = {
    Fault.STALE_CONNECTION,
    Fault.DISCONNECTED,
    Fault.READ_TIMEOUT,
    Fault.DEADLINE,
    Fault.NO_ANSWER,
    Fault.MALFORMED,
    Fault.RESPONSE_TOO_LARGE,
    Fault.MODEL_MISMATCH,
    Fault.MODEL_UNCHECKED,
    Fault.INVALID_OUTPUT,
    Fault.CANCELLED,
    Fault.WORKER_LOST,
    Fault.UNKNOWN,
}
COUNTED: Final = {
    Fault.CONNECT: BreakerEffect.FAIL_ENDPOINT,
    Fault.TLS: BreakerEffect.FAIL_ENDPOINT,
    Fault.DISCONNECTED: BreakerEffect.FAIL_MODEL,
    Fault.READ_TIMEOUT: BreakerEffect.FAIL_MODEL,
    Fault.NO_ANSWER: BreakerEffect.FAIL_MODEL,
    Fault.FORBIDDEN: BreakerEffect.FAIL_MODEL,
    Fault.SERVER_ERROR: BreakerEffect.FAIL_MODEL,
    Fault.OVERLOADED: BreakerEffect.FAIL_MODEL,
    Fault.MALFORMED: BreakerEffect.FAIL_MODEL,
    Fault.INVALID_OUTPUT: BreakerEffect.SUCCESS,
}
BASE: Final = Situation(
    attempts=1, limit=3, repeats=0, wait=2.0, remaining=60.0, min_useful=0.5, honour=120.0, ttl=3600.0
)


def expected(fault: Fault, situation: Situation) -> LiveDecision:
    """Decide by the rules in words."""
    if fault in NEVER_HEALS:
        return LiveDecision(LiveAction.FAIL)
    more = situation.attempts < situation.limit and situation.repeats < RETRIED.get(fault, 0)
    time = situation.wait + situation.min_useful <= situation.remaining and situation.wait <= situation.honour
    if more and time and not situation.forbidden:
        return LiveDecision(LiveAction.RETRY, situation.wait)
    if not situation.queue or (situation.hint is not None and situation.hint >= situation.ttl):
        return LiveDecision(LiveAction.FAIL)
    held_by_lane = fault in {Fault.CIRCUIT_OPEN, Fault.PROBE_BUSY}
    return LiveDecision(LiveAction.QUEUE, 0.0 if held_by_lane else situation.hint or 0.0)


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_has_a_row(fault: Fault) -> None:
    """No fault is without a decision."""
    assert isinstance(ADMISSION[fault], Row)


def test_no_other_rows() -> None:
    """The table holds the faults and nothing else."""
    assert set(ADMISSION) == set(Fault)


@pytest.mark.parametrize("fault", Fault)
def test_live_decisions(fault: Fault) -> None:
    """A live call retries while tries and time last and it is not forbidden, else is queued or fails."""
    axes = product((True, False), (True, False), (1, 3), (0, 1, 2, 3), (2.0, 59.5, 59.6, 130.0), (None, 9.0, 3600.0))
    for queue, forbidden, attempts, repeats, wait, hint in axes:
        situation = BASE._replace(
            queue=queue, forbidden=forbidden, attempts=attempts, repeats=repeats, wait=wait, hint=hint
        )
        assert (situation, expected(fault, situation)) == (situation, decide_live(fault, situation))


def test_honour_bounds_the_wait() -> None:
    """A wait longer than a live call sits out goes to the queue, however much time is left."""
    patient = BASE._replace(remaining=1000.0, wait=120.1, hint=120.0)
    assert decide_live(Fault.RATE_LIMITED, patient) == LiveDecision(LiveAction.QUEUE, 120.0)


@pytest.mark.parametrize("fault", Fault)
def test_worker_decisions(fault: Fault) -> None:
    """A job fails, is parked, spends an attempt, or is released unspent, by its fault."""
    action = (
        WorkerAction.FAIL
        if fault in DEAD
        else WorkerAction.PARK
        if fault in PARKED
        else WorkerAction.RETRY
        if fault in SPENT
        else WorkerAction.RELEASE
    )
    assert decide_worker(fault, hint=None, backoff=1.0, max_attempts=8).action is action


@pytest.mark.parametrize(
    ("hint", "backoff", "delay"), [(None, 2.0, 2.0), (0.0, 2.0, 2.0), (9.0, 2.0, 9.0), (1.0, 2.0, 2.0)]
)
def test_worker_delay(hint: float | None, backoff: float, delay: float) -> None:
    """A job waits for the longer of its backoff and the provider's hint."""
    decision = decide_worker(Fault.OVERLOADED, hint=hint, backoff=backoff, max_attempts=8)
    assert decision == WorkerDecision(WorkerAction.RELEASE, delay, 8, WaitReason.PROVIDER_UNAVAILABLE)


@pytest.mark.parametrize(
    ("fault", "given", "cap"),
    [
        (Fault.READ_TIMEOUT, 8, 3),
        (Fault.READ_TIMEOUT, 2, 2),
        (Fault.UNKNOWN, 8, 2),
        (Fault.UNKNOWN, 1, 1),
        (Fault.SERVER_ERROR, 8, 8),
    ],
)
def test_worker_cap(fault: Fault, given: int, cap: int) -> None:
    """What is likely to be paid for again is tried less often than the queue would allow, never more."""
    assert decide_worker(fault, hint=None, backoff=0.0, max_attempts=given).max_attempts == cap


@pytest.mark.parametrize(("fault", "sent"), list(product(Fault, Sent)))
def test_possibly_billed(fault: Fault, sent: Sent) -> None:
    """A try may have been billed when something was sent and the provider did not refuse it."""
    assert possibly_billed(fault, sent) == (sent is not Sent.NO and fault in BILLED)


@pytest.mark.parametrize("fault", Fault)
def test_breaker_counts(fault: Fault) -> None:
    """Only what shows that the provider is out counts for a circuit, and a 429 does not."""
    assert ADMISSION[fault].breaker is COUNTED.get(fault, BreakerEffect.IGNORE)


def test_latching_and_penalties() -> None:
    """Money and keys latch the account; requests to slow down hold the lane back."""
    latching = {fault for fault, row in ADMISSION.items() if row.latch}
    penalised = {fault for fault, row in ADMISSION.items() if row.penalise}
    assert (latching, penalised) == ({Fault.QUOTA, Fault.KEY}, {Fault.RATE_LIMITED, Fault.ACCELERATION})


@pytest.mark.parametrize("fault", sorted(PARKED))
def test_parked_jobs_wait_for_an_operator(fault: Fault) -> None:
    """Whatever parks a job says that an operator is needed."""
    assert ADMISSION[fault].reason is WaitReason.NEEDS_OPERATOR
