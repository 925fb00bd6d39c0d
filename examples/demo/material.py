"""The essays, the pairs to compare, and the question that is asked about each pair."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel

from llm_gateway import LLMRequest

__all__ = ["Pair", "Verdict", "judgement", "load_abilities", "load_essays", "pairs", "winner_and_loser"]

HERE: Final = Path(__file__).parent
SYSTEM: Final = "You are an impartial assessor of school essays. Judge the writing and the argument, not the opinion."

Pair = tuple[str, str]


class Verdict(BaseModel):
    """What the judge answers: which of the two essays is better, and why."""

    winner: Literal["Essay A", "Essay B"]
    justification: str


def load_essays() -> dict[str, str]:
    """Return the text of every essay by its name, in the order of the files."""
    return {path.stem: path.read_text(encoding="utf-8").strip() for path in sorted(HERE.glob("essays/*.md"))}


def load_abilities() -> dict[str, float]:
    """Return the ability, in logits, that the simulated judge sees in each essay."""
    stored: dict[str, float] = json.loads((HERE / "abilities.json").read_text(encoding="utf-8"))
    return stored


def pairs(names: Sequence[str], count: int, *, seed: int) -> list[Pair]:
    """Return *count* pairs in which every essay appears equally often, give or take one.

    They are those of a round-robin tournament of *names*, an even number, in an order drawn by *seed*. Which of two
    stands first is drawn too, since judges favour a place. After a whole tournament the pairs come again.
    """
    table = sorted(names, key=lambda name: _drawn(seed, name))
    made: list[Pair] = []
    while len(made) < count:
        half = len(table) // 2
        for one, two in zip(table[:half], reversed(table[half:]), strict=True):
            made.append((one, two) if _drawn(seed, one, two, len(made)) % 2 else (two, one))
        table = [table[0], table[-1], *table[1:-1]]
    return made[:count]


def judgement(pair: Pair, essays: Mapping[str, str], *, provider: str, model: str) -> LLMRequest:
    """Return the request that asks which of two essays is better."""
    task = (HERE / "prompt.md").read_text(encoding="utf-8").strip()
    first, second = pair
    prompt = (
        f"The task was: {task}\n\nWhich essay is better?\n\n"
        f"Essay A:\n{essays[first]}\n\nEssay B:\n{essays[second]}\n\n"
        "Name the winner and give your reason in one sentence."
    )
    names = {"essay_a_id": first, "essay_b_id": second}
    return LLMRequest(
        provider=provider, model=model, system=SYSTEM, prompt=prompt, max_output_tokens=400, metadata={**names}
    )


def winner_and_loser(pair: Pair, verdict: Verdict) -> Pair:
    """Return the pair with the winner first."""
    first, second = pair
    return (first, second) if verdict.winner == "Essay A" else (second, first)


def _drawn(seed: int, *what: object) -> int:
    """Draw a number by hashing: the same on every machine and in every version of Python."""
    return int.from_bytes(hashlib.sha256(repr((seed, *what)).encode()).digest())
