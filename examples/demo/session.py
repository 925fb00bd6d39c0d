"""Asking the questions, fetching what their tickets became, and the conclusion."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

import anyio

from examples.demo.material import Pair, Verdict, judgement, load_essays, pairs
from examples.demo.ranking import rank
from examples.demo.report import Report
from examples.demo.tally import Tally
from llm_gateway import LLMClient, LLMRequest, Pending
from llm_gateway.errors import LLMGatewayError

__all__ = ["CONCURRENCY", "Judge", "Plan", "Session", "conclude", "library_log"]

CONCURRENCY: Final = 6
ANSWER_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Judge:
    """Who is asked.

    Attributes:
        provider: The provider's name.
        model: The model.
    """

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The questions of a run.

    Attributes:
        essays: Text of each essay by its name.
        asked: The two essays of each question.
        requests: The questions.
    """

    essays: dict[str, str]
    asked: list[Pair]
    requests: list[LLMRequest]

    @classmethod
    def of(cls, calls: int, judge: Judge, *, seed: int) -> Self:
        """Draw *calls* pairs and write their questions."""
        essays = load_essays()
        asked = pairs(list(essays), calls, seed=seed)
        requests = [judgement(pair, essays, provider=judge.provider, model=judge.model) for pair in asked]
        return cls(essays, asked, requests)


class Session:
    """One run: its client, its questions and what became of them.

    Args:
        client: Whom to ask; open.
        requests: The questions; each is known by its place here.
        report: Where progress is shown.
    """

    def __init__(self, client: LLMClient, requests: Sequence[LLMRequest], report: Report) -> None:
        self.client = client
        self.requests = requests
        self.report = report
        self.tally = Tally()
        self._places = anyio.CapacityLimiter(CONCURRENCY)

    async def ask(self, numbers: range) -> None:
        """Ask these questions, a few at once, and return when each has an answer, a ticket or an error."""
        async with anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(self._ask, number)

    async def fetch_all(self, *, timeout: float) -> None:
        """Fetch the answer of every ticket that has none; give up on one after *timeout* seconds."""
        async with anyio.create_task_group() as group:
            for number, pending in self.tally.tickets.items():
                if number not in self.tally.fetched:
                    group.start_soon(self._fetch, number, pending.ticket.id, timeout)

    def first_tickets(self, count: int) -> list[Pending]:
        """Return the tickets of the first *count* questions that have one."""
        return [self.tally.tickets[number] for number in sorted(self.tally.tickets)[:count]]

    async def _ask(self, number: int) -> None:
        async with self._places:
            self.tally.asked += 1
            try:
                request = self.requests[number]
                outcome = await self.client.complete(request, output_type=Verdict, timeout=ANSWER_SECONDS)
                self.tally.add(number, outcome)
            except LLMGatewayError as error:
                self._fail(number, error)
            self.report.progress(self.tally)

    async def _fetch(self, number: int, ticket_id: str, timeout: float) -> None:
        try:
            self.tally.fetch(number, await self.client.result(ticket_id, output_type=Verdict, timeout=timeout))
        except LLMGatewayError as error:
            self._fail(number, error)
        self.report.progress(self.tally)

    def _fail(self, number: int, error: LLMGatewayError) -> None:
        self.tally.failed[number] = type(error).__name__
        self.report.note(f"question {number + 1} failed: {type(error).__name__}: {error}", style="red")


def conclude(session: Session, plan: Plan, *, provider_calls: int) -> int:
    """Print the tables and return the exit code: 1 when a question has no answer or an answer came twice."""
    tally = session.tally
    session.report.summary(tally, provider_calls=provider_calls)
    session.report.order(rank(list(plan.essays), tally.verdicts(plan.asked)))
    return int(tally.lost != 0 or tally.replayed != 0 or bool(tally.failed))


@contextmanager
def library_log(report: Report) -> Generator[None]:
    """Show what the library logs, such as the transitions of its circuit breaker, among the notes."""
    logger, handler = logging.getLogger("llm_gateway"), _Notes(report)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Notes(logging.Handler):
    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        self._report.note(f"llm_gateway: {record.getMessage()}", style="yellow")
