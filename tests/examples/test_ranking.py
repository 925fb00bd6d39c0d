"""The demo's Bradley-Terry fit."""

from __future__ import annotations

import math
import random

import pytest
from examples.demo.ranking import Standing, rank
from hypothesis import given
from hypothesis import strategies as st

NAMES = ("a", "b", "c", "d")


def abilities(standings: list[Standing]) -> dict[str, float]:
    return {standing.name: standing.ability for standing in standings}


def test_two_items_have_the_ability_that_algebra_gives() -> None:
    """For two items the distance is the log of the odds, the prior counted in."""
    best, worst = rank(("x", "y"), [("x", "y")] * 3 + [("y", "x")], prior=0.5)
    assert math.isclose(best.ability - worst.ability, math.log(3.5 / 1.5), abs_tol=1e-6)
    assert math.isclose(best.ability, -worst.ability, abs_tol=1e-6)


def test_wins_and_comparisons_are_counted() -> None:
    """Each standing tells how often its item won and was compared."""
    standings = rank(("x", "y", "z"), [("x", "y"), ("x", "z"), ("z", "x")])
    counted = {standing.name: (standing.wins, standing.comparisons) for standing in standings}
    assert counted == {"x": (2, 3), "y": (0, 1), "z": (1, 2)}


def test_an_unbeaten_item_has_a_finite_ability() -> None:
    """An item that won everything is first, with a finite ability."""
    standings = rank(("x", "y", "z"), [("x", "y"), ("x", "z"), ("y", "z"), ("z", "y")])
    assert standings[0].name == "x"
    assert math.isfinite(standings[0].ability)
    assert standings[0].ability > standings[1].ability


def test_an_item_never_compared_is_average() -> None:
    """An item without comparisons lies between winner and loser."""
    assert abilities(rank(("x", "y", "idle"), [("x", "y")]))["idle"] == pytest.approx(0.0, abs=1e-6)


def test_known_abilities_are_recovered() -> None:
    """Many noisy verdicts lead back to the order and the distances they were drawn from."""
    truth = {"a": 1.5, "b": 0.5, "c": -0.5, "d": -1.5}
    rng = random.Random(7)
    verdicts: list[tuple[str, str]] = []
    for _ in range(4000):
        one, two = rng.sample(NAMES, 2)
        first_wins = rng.random() < 1 / (1 + math.exp(truth[two] - truth[one]))
        verdicts.append((one, two) if first_wins else (two, one))
    standings = rank(NAMES, verdicts)
    assert [standing.name for standing in standings] == list(NAMES)
    assert abilities(standings) == pytest.approx(truth, abs=0.15)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] != pair[1])))
def test_the_gradient_vanishes_at_the_fit(verdicts: list[tuple[str, str]]) -> None:
    """At the fit the wins that each item should have, prior included, are those it has."""
    fitted = abilities(rank(NAMES, verdicts, prior=0.3))
    drawn = [(one, two) for one in NAMES for two in NAMES if one != two]
    for name in NAMES:
        met = [(1.0, pair) for pair in verdicts if name in pair] + [(0.1, pair) for pair in drawn if name in pair]
        won = sum(weight for weight, (winner, _) in met if winner == name)
        rivals = [(weight, loser if winner == name else winner) for weight, (winner, loser) in met]
        expected = sum(weight / (1 + math.exp(fitted[rival] - fitted[name])) for weight, rival in rivals)
        assert expected == pytest.approx(won, abs=1e-4)


def test_verdicts_of_strangers_are_refused() -> None:
    """A verdict about an unknown item, or an item against itself, is a ValueError."""
    with pytest.raises(ValueError, match="does not compare two"):
        rank(("x", "y"), [("x", "stranger")])
    with pytest.raises(ValueError, match="does not compare two"):
        rank(("x", "y"), [("x", "x")])


def test_a_fit_without_prior_is_refused() -> None:
    """A prior of 0 is a ValueError, since an unbeaten item would have no finite ability."""
    with pytest.raises(ValueError, match="prior must be above 0"):
        rank(("x", "y"), [("x", "y")], prior=0.0)
