"""What became of the questions, counted from the receipts that came back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from examples.demo.material import Pair, Verdict, winner_and_loser
from llm_gateway import Completed, Pending, Receipt

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """The outcome of each question, by its number.

    Attributes:
        asked: Questions asked.
        live: Answered at once.
        tickets: Questions for which a ticket was issued instead.
        fetched: Answers fetched by their ticket.
        failed: Questions that ended in an error, with the error's name.
    """

    asked: int = 0
    live: dict[int, Completed[Verdict]] = field(default_factory=dict[int, Completed[Verdict]])
    tickets: dict[int, Pending] = field(default_factory=dict[int, Pending])
    fetched: dict[int, Completed[Verdict]] = field(default_factory=dict[int, Completed[Verdict]])
    failed: dict[int, str] = field(default_factory=dict[int, str])

    def add(self, number: int, outcome: Completed[Verdict] | Pending) -> None:
        """Count what ``complete`` gave for question *number*."""
        match outcome:
            case Completed():
                self.live[number] = outcome
            case Pending():
                self.tickets[number] = outcome

    def fetch(self, number: int, outcome: Completed[Verdict] | Pending) -> None:
        """Count what the ticket of question *number* gave; one still pending is not an answer."""
        if isinstance(outcome, Completed):
            self.fetched[number] = outcome

    @property
    def answers(self) -> Mapping[int, Completed[Verdict]]:
        """Every answer, by the number of its question."""
        return self.live | self.fetched

    @property
    def receipts(self) -> list[Receipt]:
        """The receipt of every answer."""
        return [answer.response.receipt for answer in self.answers.values()]

    @property
    def completed(self) -> int:
        """Questions that have an answer."""
        return len(self.answers)

    @property
    def lost(self) -> int:
        """Questions that have neither an answer nor an error."""
        return self.asked - self.completed - len(self.failed)

    @property
    def response_ids(self) -> int:
        """Distinct ids that the provider gave its answers."""
        return len({receipt.response_id for receipt in self.receipts} - {None})

    @property
    def replayed(self) -> int:
        """Answers whose response id is another answer's too, or that have none to prove them fresh."""
        return self.completed - self.response_ids

    @property
    def attempts(self) -> int:
        """Calls that the receipts of the answers tell of."""
        return sum(len(receipt.attempts) for receipt in self.receipts)

    @property
    def cost(self) -> Decimal | None:
        """Price of all answers in US dollars; ``None`` when the price of one is not known."""
        prices = [receipt.cost for receipt in self.receipts]
        known = [price for price in prices if price is not None]
        return sum(known, Decimal(0)) if len(known) == len(prices) else None

    def verdicts(self, asked: list[Pair]) -> list[Pair]:
        """Return winner and loser of each answered question; a refused or truncated answer decides nothing."""
        decided = ((number, answer.response.output) for number, answer in self.answers.items())
        return [winner_and_loser(asked[number], output) for number, output in decided if output is not None]
