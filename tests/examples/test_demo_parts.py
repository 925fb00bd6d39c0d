"""The demo's material, its counting and what it prints."""

from __future__ import annotations

import io
import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from examples.demo.material import Verdict, judgement, load_abilities, load_essays, pairs, winner_and_loser
from examples.demo.ranking import rank
from examples.demo.real import estimate
from examples.demo.report import LOG_EVERY, Report, price
from examples.demo.session import Judge
from examples.demo.tally import Tally
from rich.console import Console

from llm_gateway import Completed, FinishReason, LLMResponse, Pending, Receipt, Ticket, Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST_WINS = Verdict(winner="Essay A", justification="It argues.")


def answer(
    response_id: str | None, *, model: str = "gpt-4.1-mini", output: Verdict | None = FIRST_WINS
) -> Completed[Verdict]:
    receipt = Receipt(
        provider="openai",
        endpoint="127.0.0.1",
        key_id="k",
        requested_model=model,
        served_model=model,
        finish_reason=FinishReason.STOP,
        usage=Usage(input_tokens=1_000_000),
        prompt_sha256="",
        text_sha256="",
        sent_at=NOW,
        first_byte_at=NOW,
        received_at=NOW,
        response_id=response_id,
    )
    return Completed(LLMResponse(output=output, text="", receipt=receipt))


def pending(ticket_id: str = "t-1") -> Pending:
    return Pending(Ticket(id=ticket_id, reason="circuit_open", created_at=NOW, expires_at=NOW, idempotency_key="i"))


def printed(tally: Tally) -> str:
    out = io.StringIO()
    Report(Console(file=out, force_terminal=False, width=80), tally.asked).summary(tally, provider_calls=9)
    return out.getvalue()


def test_every_essay_has_an_ability_and_the_right_length() -> None:
    """Twelve essays of 120 to 200 words are shipped, each with an ability of its own."""
    essays, abilities = load_essays(), load_abilities()
    assert list(essays) == list(abilities)
    assert len(set(abilities.values())) == 12
    assert all(120 <= len(text.split()) <= 200 for text in essays.values())


def test_sixty_pairs_compare_each_essay_ten_times() -> None:
    """Sixty pairs are all different and each of twelve essays is in ten of them."""
    drawn = pairs(list(load_essays()), 60, seed=3)
    assert len({frozenset(pair) for pair in drawn}) == 60
    assert set(Counter(name for pair in drawn for name in pair).values()) == {10}


def test_pairs_are_drawn_by_their_seed() -> None:
    """The same seed draws the same pairs, another seed others, and both places occur."""
    names = list(load_essays())
    assert pairs(names, 12, seed=1) == pairs(names, 12, seed=1)
    assert pairs(names, 12, seed=1) != pairs(names, 12, seed=2)
    assert 10 < sum(one < two for one, two in pairs(names, 60, seed=1)) < 50


def test_a_question_holds_both_essays_in_their_order() -> None:
    """The request shows the first essay as A, the second as B, and names both in its metadata."""
    essays = load_essays()
    one, two, *_ = essays
    request = judgement((one, two), essays, provider="openai", model="m")
    assert request.metadata == {"essay_a_id": one, "essay_b_id": two}
    assert (request.prompt or "").index(essays[one]) < (request.prompt or "").index(essays[two])


def test_the_verdict_says_who_won() -> None:
    """Essay A is the first of the pair and Essay B the second."""
    assert winner_and_loser(("x", "y"), FIRST_WINS) == ("x", "y")
    assert winner_and_loser(("x", "y"), Verdict(winner="Essay B", justification="")) == ("y", "x")


def test_a_ticket_without_an_answer_is_lost() -> None:
    """Questions with neither answer nor error count as lost, until their ticket is fetched."""
    tally = Tally(asked=2)
    tally.add(0, answer("r-0"))
    tally.add(1, pending())
    tally.fetch(1, pending())
    assert (tally.completed, tally.lost) == (1, 1)
    tally.fetch(1, answer("r-1"))
    assert (tally.completed, tally.lost, len(tally.tickets)) == (2, 0, 1)


@pytest.mark.parametrize("second", ["r-0", None])
def test_an_answer_that_is_not_provably_new_is_replayed(second: str | None) -> None:
    """An id seen before, or no id at all, counts as a replay."""
    tally = Tally(asked=2)
    tally.add(0, answer("r-0"))
    tally.add(1, answer(second))
    assert (tally.response_ids, tally.replayed) == (1, 1)


def test_the_cost_is_known_only_if_every_price_is() -> None:
    """One answer of a model without a price makes the whole cost unknown."""
    tally = Tally(asked=2)
    tally.add(0, answer("r-0"))
    assert price(tally.cost) == "$0.4000"
    tally.add(1, answer("r-1", model="no-such-model"))
    assert price(tally.cost) == "not known"


def test_a_refusal_decides_nothing() -> None:
    """An answer without a verdict is completed and leaves the order alone."""
    tally = Tally(asked=2)
    tally.add(0, answer("r-0"))
    tally.add(1, answer("r-1", output=None))
    assert (tally.completed, tally.verdicts([("x", "y"), ("y", "x")])) == (2, [("x", "y")])


def test_the_table_shows_each_count() -> None:
    """The summary has a row for each count, without any control sequence."""
    tally = Tally(asked=3)
    tally.add(0, answer("r-0"))
    tally.add(1, pending())
    tally.failed[2] = "RateLimited"
    rows = dict(re.findall(r"^ *([a-z][a-z ]+?) {2,}(\S+) *$", printed(tally), flags=re.MULTILINE))
    assert rows == {
        "asked": "3",
        "answered live": "1",
        "queued": "1",
        "completed": "1",
        "failed": "1",
        "lost": "1",
        "replayed": "0",
        "distinct response ids": "1",
        "provider calls": "9",
        "cost": "$0.4000",
    }
    assert "\x1b" not in printed(tally)


def test_the_order_shows_rank_ability_and_wins() -> None:
    """The essays are listed best first, with their wins among their comparisons."""
    out = io.StringIO()
    Report(Console(file=out, force_terminal=False, width=80), 1).order(rank(("x", "y"), [("y", "x")]))
    rows = [line.split() for line in out.getvalue().splitlines() if line.strip()[:1].isdigit()]
    assert [(row[0], row[1], row[3]) for row in rows] == [("1", "y", "1/1"), ("2", "x", "0/1")]
    assert float(rows[0][2]) == -float(rows[1][2]) > 0


def test_a_log_tells_of_progress_every_ten_answers() -> None:
    """Without a terminal one line is written for every ten answers, and no bar."""
    out = io.StringIO()
    tally = Tally()
    with Report(Console(file=out, force_terminal=False, width=80), 25) as report:
        for number in range(25):
            tally.add(number, answer(f"r-{number}"))
            report.progress(tally)
    lines = [line.split("s  ", 1)[1] for line in out.getvalue().splitlines()]
    assert lines == [f"{done} of 25 answered, 0 waiting" for done in (LOG_EVERY, 2 * LOG_EVERY)]


def test_a_terminal_has_a_live_bar() -> None:
    """On a terminal the bar is drawn with control sequences."""
    out = io.StringIO()
    tally = Tally(asked=1)
    with Report(Console(file=out, force_terminal=True, width=100), 1) as report:
        tally.add(0, answer("r-0"))
        report.progress(tally)
    assert "\x1b[" in out.getvalue()
    assert "judgements" in out.getvalue()


def test_the_estimate_covers_the_longest_answers() -> None:
    """The cost shown before a real run is at least the price of its longest answers."""
    essays = load_essays()
    judge = Judge("openai", "gpt-4.1-mini")
    requests = [
        judgement(pair, essays, provider="openai", model=judge.model) for pair in pairs(list(essays), 12, seed=1)
    ]
    # 400 tokens of output at $1.60 a million.
    assert estimate(judge, requests) > 12 * 400 * 1.6e-6
    assert estimate(judge, requests) < 0.05
