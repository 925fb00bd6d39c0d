"""The judge and the instance maker of the simulated provider."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, JsonValue, TypeAdapter

from llm_gateway.testing._sim_judge import BradleyTerryJudge, UnanswerableQuestion, unique_answer
from llm_gateway.testing._sim_schema import instance_of
from llm_gateway.testing._sim_shapes import Question, Vendor

ABILITIES = {"essay-1": 1.0, "essay-10": -1.0, "essay-2": 0.0}


class Colour(Enum):
    RED = "red"


class Leaf(BaseModel):
    size: Annotated[int, Field(ge=3, le=6)]
    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    below: Annotated[float, Field(le=-5.0)]
    even: Annotated[int, Field(gt=4, multiple_of=4)]
    negative: Annotated[int, Field(lt=0)]


class Tree(BaseModel):
    name: Annotated[str, Field(min_length=40, max_length=50)]
    short: Annotated[str, Field(max_length=2)]
    leaf: Leaf
    leaves: Annotated[list[Leaf], Field(min_length=2)]
    maybe: Leaf | None
    colour: Colour
    fixed: Literal["x"]
    day: date
    at: datetime
    key: UUID
    yes: bool
    nothing: None
    pair: list[int | str]
    branch: Tree | None = None
    branches: list[Tree] = []


class Letter(BaseModel):
    choice: Literal["A", "B"]
    confidence: Annotated[int, Field(ge=1, le=6)]
    why: str


def question(prompt: str, output: type[BaseModel] | None = None, number: int = 1) -> Question:
    schema = None if output is None else output.model_json_schema()
    return Question(vendor=Vendor.OPENAI, model="m", prompt=prompt, json_schema=schema, number=number)


def winners(judge: BradleyTerryJudge, prompt: str, count: int) -> list[str]:
    return [json.loads(judge(question(prompt)))["winner"] for _ in range(count)]


def test_draws_follow_the_model() -> None:
    """Over many draws the share of wins is the logistic of the difference, within four standard errors."""
    judge = BradleyTerryJudge(ABILITIES, seed=7)
    count, chance = 4000, 1 / (1 + math.exp(-1.0))

    share = winners(judge, "A: essay-1, B: essay-2", count).count("Essay A") / count

    assert abs(share - chance) < 4 * math.sqrt(chance * (1 - chance) / count)


def test_order_in_the_prompt_decides_who_is_a() -> None:
    """Without noise the abler text wins wherever it stands."""
    judge = BradleyTerryJudge(ABILITIES, noise=0)

    assert ["Essay A", "Essay B"] == [winners(judge, p, 1)[0] for p in ("essay-1 essay-2", "essay-2 essay-1")]


def test_markers_inside_markers() -> None:
    """A marker that is part of a longer one is not taken for it, in either order."""
    judge = BradleyTerryJudge(ABILITIES)

    assert ("essay-10", "essay-2") == judge.pair_in("essay-10 and essay-2")
    assert ("essay-10", "essay-1") == judge.pair_in("essay-10 and essay-1")


def test_seed_repeats_and_none_does_not() -> None:
    """The same seed gives the same verdicts, another or none other ones."""
    draws = [winners(BradleyTerryJudge({"x": 0, "y": 0}, seed=seed), "x y", 64) for seed in (1, 1, 2, None, None)]

    assert draws[0] == draws[1]
    assert 4 == len({tuple(draw) for draw in draws})


def test_equal_texts_without_noise() -> None:
    """Equal texts are a coin flip even without noise."""
    assert 0.5 == BradleyTerryJudge({"x": 1, "y": 1}, noise=0).probability("x", "y")


def test_far_apart() -> None:
    """Abilities far apart overflow nothing."""
    judge = BradleyTerryJudge({"x": 1e9, "y": -1e9}, noise=0.001)

    assert (1.0, 0.0) == (judge.probability("x", "y"), round(judge.probability("y", "x"), 12))


def test_verdict_as_the_schema_asks() -> None:
    """Fields, spelling of the winner and range of the confidence are those of the schema."""
    judge = BradleyTerryJudge({"x": 9, "y": -9}, noise=0)

    verdict = Letter.model_validate_json(judge(question("y or x", Letter, number=5)))

    assert ("B", 6) == (verdict.choice, verdict.confidence)
    assert verdict.why.startswith("Essay B carries its argument further (judgement 5")


def test_plain_verdict() -> None:
    """Without a schema the verdict is JSON with winner, confidence and justification."""
    verdict = json.loads(BradleyTerryJudge({"x": 0, "y": 0}, confidence=(0, 1))(question("x y")))

    assert {"winner", "confidence", "justification"} == set(verdict)
    assert 0.5 == verdict["confidence"]


@pytest.mark.parametrize("prompt", ["", "only essay-1", "essay-1 twice: essay-1"])
def test_unknown_texts(prompt: str) -> None:
    """A prompt without two known texts is not judged, never guessed."""
    with pytest.raises(UnanswerableQuestion, match="needs two"):
        BradleyTerryJudge(ABILITIES)(question(prompt))


@pytest.mark.parametrize(
    ("abilities", "noise"), [({}, 1.0), ({"x": 1.0}, 1.0), ({"": 1.0, "x": 1.0}, 1.0), ({"x": 1, "y": 1}, -1.0)]
)
def test_impossible_judges(abilities: dict[str, float], noise: float) -> None:
    """A judge without two texts, or with negative noise, cannot be made."""
    with pytest.raises(ValueError, match="needs two texts"):
        BradleyTerryJudge(abilities, noise=noise)


def test_instances_are_valid() -> None:
    """The instance of a nested, bounded, recursive schema is valid for the type that it came from."""
    tree = Tree.model_validate(instance_of(Tree.model_json_schema(), "note"))

    assert tree.name.startswith("note")
    assert tree.maybe is not None


@pytest.mark.parametrize(
    "adapter",
    [
        TypeAdapter(dict[str, int]),
        TypeAdapter(list[int]),
        TypeAdapter(int | None),
        TypeAdapter(Literal[3, 4]),
        TypeAdapter(None),
        TypeAdapter(Annotated[float, Field(ge=2)]),
        TypeAdapter(Annotated[list[int], Field(max_length=0)]),
    ],
)
def test_odd_roots(adapter: TypeAdapter[object]) -> None:
    """Roots that are no objects have instances too."""
    schema: dict[str, JsonValue] = adapter.json_schema()

    made = instance_of(schema)

    assert made == adapter.validate_python(made, strict=True)


def test_unique_answers() -> None:
    """The default answer differs each time, also inside an instance of a schema."""
    plain = {unique_answer(question("same")) for _ in range(20)}
    made = {Letter.model_validate_json(unique_answer(question("same", Letter))).why for _ in range(20)}

    assert (20, 20) == (len(plain), len(made))
