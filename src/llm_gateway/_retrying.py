"""The one layer that tries again. Whatever it gives up on carries the table's decision in ``call.decision``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from llm_gateway._core.admission import ADMISSION, LiveAction, LiveDecision, Situation, decide_live
from llm_gateway._core.retry import RetryBudget, backoff, wait_for
from llm_gateway._facts import Fault
from llm_gateway._pipeline import Answer, Call, Layer
from llm_gateway.errors import LLMGatewayError
from llm_gateway.options import RetryOptions
from llm_gateway.protocols import Clock

__all__ = ["Budgets", "Retrying"]


class Budgets:
    """One retry budget for each endpoint, so that an outage here takes no retries from elsewhere."""

    def __init__(self, options: RetryOptions) -> None:
        self._options = options
        self._by_endpoint: dict[str, RetryBudget] = {}

    def __getitem__(self, endpoint: str) -> RetryBudget:
        """Return the budget of an endpoint."""
        budget = self._by_endpoint.get(endpoint)
        if budget is None:
            options = self._options
            budget = RetryBudget(tokens=options.budget, ratio=options.budget_ratio, refill=options.budget_refill)
            self._by_endpoint[endpoint] = budget
        return budget


class Retrying:
    """Tries again within the caller's timeout, as the admission table allows."""

    def __init__(
        self, inner: Layer, options: RetryOptions, *, clock: Clock, random: Callable[[], float], queue: bool
    ) -> None:
        self._inner = inner
        self._options = options
        self._clock = clock
        self._random = random
        self._queue = queue
        self._budgets = Budgets(options)

    async def __call__(self, call: Call, timeout: float) -> Answer:
        """Carry *call* out; on error ``call.decision`` says whether a queue should take it, and when."""
        self._budgets[call.key.endpoint].first(self._clock.monotonic())
        met: Counter[Fault] = Counter()
        while True:
            try:
                return await self._inner(call, timeout)
            except LLMGatewayError as error:
                call.decision = self._decide(call, error, met)
                if call.decision.action is not LiveAction.RETRY:
                    raise
                met[error.fault or Fault.UNKNOWN] += 1
            await self._clock.sleep(call.decision.delay)
            if self._queue:
                continue
            # Nobody can take the call over at the deadline, so no try may outlast it.
            timeout = max(call.deadline - self._clock.monotonic(), 0.001)

    def _decide(self, call: Call, error: LLMGatewayError, met: Counter[Fault]) -> LiveDecision:
        fault = error.fault or Fault.UNKNOWN
        situation = self._situation(call, error, met[fault])
        decision = decide_live(fault, situation)
        if decision.action is not LiveAction.RETRY:
            return decision
        # An adopted call has a ticket now, and the queue is its retry; so has one without a token left.
        if call.live and self._budgets[call.key.endpoint].spend(self._clock.monotonic()):
            return decision
        return LiveDecision(LiveAction.QUEUE if self._queue else LiveAction.FAIL, error.retry_after or 0.0)

    def _situation(self, call: Call, error: LLMGatewayError, repeats: int) -> Situation:
        options = self._options
        return Situation(
            attempts=len(call.attempts),
            limit=options.attempts,
            repeats=repeats,
            wait=self._wait(call, error, repeats),
            remaining=call.deadline - self._clock.monotonic(),
            min_useful=options.min_useful,
            honour=options.honour,
            ttl=call.request.ttl.total_seconds(),
            hint=error.retry_after,
            forbidden=error.info.no_retry,
            queue=self._queue,
        )

    def _wait(self, call: Call, error: LLMGatewayError, repeats: int) -> float:
        row = ADMISSION[error.fault or Fault.UNKNOWN]
        if row.at_once and repeats == 0:
            return error.retry_after or 0.0
        base = self._options.throttled_base if row.throttled else self._options.base
        pause = backoff(max(len(call.attempts), 1), base=base, cap=self._options.cap, draw=self._random())
        return wait_for(error.retry_after, pause, self._random())
