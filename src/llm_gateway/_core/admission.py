"""When to retry, queue, park or fail: one table, and the two decisions that read it.

*Retry* heals seconds inside the caller's timeout. *Queue* covers minutes to hours of an outage. *Park* waits for an
operator. *Fail* is for what time cannot heal. In a worker the queue is the retry: ``RETRY`` spends one of the
ticket's attempts, ``RELEASE`` spends none because the provider, not the request, was at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from llm_gateway._core.outcomes import WaitReason
from llm_gateway._facts import Fault, Sent

__all__ = [
    "ADMISSION",
    "BreakerEffect",
    "LiveAction",
    "LiveDecision",
    "Row",
    "Situation",
    "WorkerAction",
    "WorkerDecision",
    "decide_live",
    "decide_worker",
    "possibly_billed",
]


class LiveAction(StrEnum):
    """What a live call does."""

    RETRY = "retry"
    QUEUE = "queue"
    FAIL = "fail"


class WorkerAction(StrEnum):
    """What becomes of a job."""

    RETRY = "retry"
    RELEASE = "release"
    PARK = "park"
    FAIL = "fail"


class BreakerEffect(StrEnum):
    """What the circuit counts."""

    IGNORE = "ignore"
    SUCCESS = "success"
    FAIL_MODEL = "fail_model"
    FAIL_ENDPOINT = "fail_endpoint"


class Row(NamedTuple):
    """What one fault means.

    Attributes:
        live: What a live call does first; a retry that is not possible becomes ``QUEUE``.
        retries: Most retries of a live call for this fault.
        at_once: Whether the first retry waits not at all.
        throttled: Whether waits start from the longer base of rate limits.
        worker: What becomes of a job.
        cap: Attempts after which a job with this fault fails; ``None``: the queue's own cap.
        breaker: What the circuit counts.
        penalise: Whether the limiter holds the lane back until Retry-After.
        latch: Whether the account is latched until someone mends it.
        ambiguous: Whether the vendor may charge once anything was sent.
        reason: What the ticket says it waits for.
    """

    live: LiveAction
    worker: WorkerAction
    breaker: BreakerEffect = BreakerEffect.IGNORE
    retries: int = 0
    at_once: bool = False
    throttled: bool = False
    cap: int | None = None
    penalise: bool = False
    latch: bool = False
    ambiguous: bool = False
    reason: WaitReason = WaitReason.PROVIDER_UNAVAILABLE


RETRY, QUEUE, FAIL = LiveAction.RETRY, LiveAction.QUEUE, LiveAction.FAIL
W_RETRY, W_RELEASE, W_PARK, W_FAIL = (
    WorkerAction.RETRY,
    WorkerAction.RELEASE,
    WorkerAction.PARK,
    WorkerAction.FAIL,
)
MODEL, ENDPOINT = BreakerEffect.FAIL_MODEL, BreakerEffect.FAIL_ENDPOINT
OPERATOR, LIMIT = WaitReason.NEEDS_OPERATOR, WaitReason.RATE_LIMITED

ADMISSION: Final[Mapping[Fault, Row]] = {
    # Refused here, before anything was sent.
    Fault.CIRCUIT_OPEN: Row(live=QUEUE, worker=W_RELEASE, reason=WaitReason.CIRCUIT_OPEN),
    Fault.PROBE_BUSY: Row(live=QUEUE, worker=W_RELEASE, reason=WaitReason.CIRCUIT_OPEN),
    Fault.LIMITED: Row(live=RETRY, retries=3, worker=W_RELEASE, reason=LIMIT),
    Fault.LATCHED: Row(live=FAIL, worker=W_PARK, reason=OPERATOR),
    Fault.LOCAL_BUSY: Row(live=RETRY, retries=1, worker=W_RELEASE, reason=WaitReason.LOCAL_BUSY),
    # A ticket would meet the same part.
    Fault.BROKEN_PART: Row(live=FAIL, worker=W_RELEASE, reason=OPERATOR),
    Fault.BUDGET_EMPTY: Row(live=QUEUE, worker=W_RELEASE),
    # The network.
    Fault.CONNECT: Row(live=RETRY, retries=2, at_once=True, worker=W_RELEASE, breaker=ENDPOINT),
    Fault.TLS: Row(live=QUEUE, worker=W_PARK, breaker=ENDPOINT, reason=OPERATOR),
    Fault.STALE_CONNECTION: Row(live=RETRY, retries=1, at_once=True, worker=W_RELEASE, ambiguous=True),
    Fault.DISCONNECTED: Row(live=RETRY, retries=2, worker=W_RETRY, breaker=MODEL, ambiguous=True),
    # Asking again while the first answer may still be on its way would pay twice inside one timeout.
    Fault.READ_TIMEOUT: Row(live=QUEUE, worker=W_RETRY, cap=3, breaker=MODEL, ambiguous=True),
    Fault.DEADLINE: Row(live=QUEUE, worker=W_RETRY, ambiguous=True, reason=WaitReason.DEADLINE),
    # The caller's time is over, and it was long enough to tell against the provider.
    Fault.NO_ANSWER: Row(live=QUEUE, worker=W_RETRY, breaker=MODEL, ambiguous=True, reason=WaitReason.DEADLINE),
    # The provider is in trouble.
    Fault.SERVER_ERROR: Row(live=RETRY, retries=2, worker=W_RETRY, breaker=MODEL),
    Fault.OVERLOADED: Row(live=RETRY, retries=1, throttled=True, worker=W_RELEASE, breaker=MODEL),
    Fault.MALFORMED: Row(live=RETRY, retries=1, worker=W_RETRY, breaker=MODEL, ambiguous=True),
    # The provider asks for less.
    Fault.RATE_LIMITED: Row(live=RETRY, retries=1, throttled=True, worker=W_RELEASE, penalise=True, reason=LIMIT),
    Fault.ACCELERATION: Row(live=QUEUE, throttled=True, worker=W_RELEASE, penalise=True, reason=LIMIT),
    # Someone has to act.
    Fault.QUOTA: Row(live=FAIL, worker=W_PARK, latch=True, reason=OPERATOR),
    Fault.KEY: Row(live=FAIL, worker=W_PARK, latch=True, reason=OPERATOR),
    Fault.MODEL_NOT_FOUND: Row(live=FAIL, worker=W_PARK, reason=OPERATOR),
    # A firewall or a moderation on the way: one prompt may be meant, or all. The circuit finds out which, and holds
    # the rest; an account or a lane must not stand still for one prompt.
    Fault.FORBIDDEN: Row(live=FAIL, worker=W_RETRY, cap=3, breaker=MODEL, reason=OPERATOR),
    # The request is at fault.
    Fault.BAD_REQUEST: Row(live=FAIL, worker=W_FAIL),
    Fault.CONTEXT_TOO_LONG: Row(live=FAIL, worker=W_FAIL),
    Fault.CONFLICT: Row(live=RETRY, retries=1, worker=W_RETRY),
    # An answer that must not be used.
    Fault.RESPONSE_TOO_LARGE: Row(live=FAIL, worker=W_FAIL, ambiguous=True),
    Fault.MODEL_MISMATCH: Row(live=FAIL, worker=W_FAIL, ambiguous=True),
    # Each try is paid for, so a queue that answers all but this must not be waited out for ever.
    Fault.MODEL_UNCHECKED: Row(live=FAIL, worker=W_RETRY, ambiguous=True),
    Fault.STALE_RESPONSE: Row(live=FAIL, worker=W_FAIL),
    Fault.INVALID_OUTPUT: Row(live=FAIL, worker=W_FAIL, breaker=BreakerEffect.SUCCESS, ambiguous=True),
    # The asker or the worker went away.
    Fault.CANCELLED: Row(live=FAIL, worker=W_RELEASE, ambiguous=True, reason=WaitReason.SHUTDOWN),
    Fault.WORKER_LOST: Row(live=QUEUE, worker=W_RELEASE, ambiguous=True, reason=WaitReason.WORKER_LOST),
    # Nobody knows: time may heal it once, but not for ever.
    Fault.UNKNOWN: Row(live=QUEUE, worker=W_RETRY, cap=2, ambiguous=True),
}


class Situation(NamedTuple):
    """What a live decision depends on beside the fault. All durations are seconds.

    Attributes:
        attempts: Attempts made so far.
        limit: Most attempts of one live call.
        repeats: How often this very fault came up before.
        wait: How long the next attempt would have to wait.
        remaining: Left of the caller's timeout.
        min_useful: Least time left for which another attempt is started.
        honour: Longest wait that a live call sits out.
        ttl: How long the request may wait in a queue.
        hint: The provider's own Retry-After.
        forbidden: Whether the provider said that trying again at once does not help.
        queue: Whether a queue can take the request.
    """

    attempts: int
    limit: int
    repeats: int
    wait: float
    remaining: float
    min_useful: float
    honour: float
    ttl: float
    hint: float | None = None
    forbidden: bool = False
    queue: bool = True


class LiveDecision(NamedTuple):
    """What to do, and after how many seconds."""

    action: LiveAction
    delay: float = 0.0


class WorkerDecision(NamedTuple):
    """What becomes of a job, after how many seconds, and the attempts it may spend in all."""

    action: WorkerAction
    delay: float
    max_attempts: int
    reason: WaitReason


def decide_live(fault: Fault, situation: Situation) -> LiveDecision:
    """Decide what a live call does about *fault*."""
    row = ADMISSION[fault]
    if row.live is FAIL:
        return LiveDecision(FAIL)
    if row.live is RETRY and _may_retry(row, situation):
        return LiveDecision(RETRY, situation.wait)
    hint = situation.hint or 0.0
    # A ticket that expires before it may be tried would be a promise known to be broken.
    if situation.queue and hint < situation.ttl:
        # A lane whose circuit is open is held as a whole, and let go as soon as it closes; its jobs need no wait.
        return LiveDecision(QUEUE, 0.0 if row.reason is WaitReason.CIRCUIT_OPEN else hint)
    return LiveDecision(FAIL)


def decide_worker(fault: Fault, *, hint: float | None, backoff: float, max_attempts: int) -> WorkerDecision:
    """Decide what becomes of a job after *fault*; waits are seconds."""
    row = ADMISSION[fault]
    cap = max_attempts if row.cap is None else min(row.cap, max_attempts)
    return WorkerDecision(row.worker, max(hint or 0.0, backoff), cap, row.reason)


def possibly_billed(fault: Fault, sent: Sent) -> bool:
    """Whether the vendor may charge for an attempt that ended in *fault*."""
    return sent is not Sent.NO and ADMISSION[fault].ambiguous


def _may_retry(row: Row, situation: Situation) -> bool:
    return (
        situation.attempts < situation.limit
        and situation.repeats < row.retries
        and situation.wait <= min(situation.remaining - situation.min_useful, situation.honour)
        and not situation.forbidden
    )
