"""A Bradley-Terry fit in plain Python: who is better, and by how much, from who beat whom."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["Standing", "rank"]

TOLERANCE: Final = 1e-9
MAX_ROUNDS: Final = 10_000

Verdicts: TypeAlias = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Standing:
    """One item's place in the order.

    Attributes:
        name: The item.
        ability: In logits: one that is higher by 1 wins 73 % of the comparisons between the two.
        wins: Comparisons won.
        comparisons: Comparisons made.
    """

    name: str
    ability: float
    wins: int
    comparisons: int


def rank(items: Sequence[str], verdicts: Verdicts, *, prior: float = 0.25) -> list[Standing]:
    """Fit abilities by maximising the Bradley-Terry likelihood and return the items, best first.

    Args:
        items: Every item, also those never compared. At least two.
        verdicts: One ``(winner, loser)`` for each comparison.
        prior: Wins, and as many losses, that each item is given, spread evenly over all the others. Above 0 it keeps
            the ability of an item that won or lost everything finite.

    Raises:
        ValueError: when *prior* is not above 0, or a verdict does not compare two of the items.
    """
    if prior <= 0:
        message = "The prior must be above 0: without it an unbeaten item has no finite ability."
        raise ValueError(message)
    beaten = _counted(items, verdicts)
    given = prior / (len(items) - 1)
    scores = {name: prior + sum(beaten[name, other] for other in items) for name in items}
    weights = {
        name: {other: 2 * given + beaten[name, other] + beaten[other, name] for other in items if other != name}
        for name in items
    }
    abilities = _fitted(scores, weights)
    standings = [_standing(name, abilities[name], beaten) for name in items]
    return sorted(standings, key=lambda standing: (-standing.ability, standing.name))


def _counted(items: Sequence[str], verdicts: Verdicts) -> Counter[tuple[str, str]]:
    known = set(items)
    beaten: Counter[tuple[str, str]] = Counter()
    for winner, loser in verdicts:
        if winner == loser or not {winner, loser} <= known:
            message = f"The verdict {winner!r} over {loser!r} does not compare two of the items."
            raise ValueError(message)
        beaten[winner, loser] += 1
    return beaten


def _standing(name: str, ability: float, beaten: Counter[tuple[str, str]]) -> Standing:
    wins = sum(count for (winner, _), count in beaten.items() if winner == name)
    losses = sum(count for (_, loser), count in beaten.items() if loser == name)
    return Standing(name, ability, wins, wins + losses)


def _fitted(scores: Mapping[str, float], weights: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Repeat the minorise-maximise update: each round raises the likelihood, whose maximum is unique."""
    strengths = dict.fromkeys(scores, 1.0)
    for _ in range(MAX_ROUNDS):
        before = strengths
        strengths = {
            name: scores[name] / sum(weight / (before[name] + before[other]) for other, weight in weights[name].items())
            for name in scores
        }
        # Only differences of ability have a meaning, so their mean is set to 0.
        centre = math.fsum(map(math.log, strengths.values())) / len(strengths)
        strengths = {name: strength / math.exp(centre) for name, strength in strengths.items()}
        if all(math.isclose(strengths[name], before[name], rel_tol=TOLERANCE) for name in strengths):
            break
    return {name: math.log(strength) for name, strength in strengths.items()}
