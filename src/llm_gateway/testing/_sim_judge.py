"""Who answers the questions that a simulated provider is asked."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import secrets
import uuid
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from llm_gateway.testing._sim_schema import fields_of, instance_of
from llm_gateway.testing._sim_shapes import Question

__all__ = ["Answerer", "BradleyTerryJudge", "UnanswerableQuestion", "unique_answer"]

Answerer = Callable[[Question], str]
WINNER_FIELDS: Final = ("winner", "preferred", "better", "choice")
PAIR: Final = 2


class UnanswerableQuestion(ValueError):
    """An answerer cannot answer; the simulated provider replies 400 with this message."""


def unique_answer(question: Question) -> str:
    """Answer with a short text that never comes twice, or with a small instance of the schema that holds one."""
    note = f"Answer {question.number} ({uuid.uuid4().hex[:12]})"
    if question.json_schema is None:
        return note
    return json.dumps(instance_of(question.json_schema, note))


class BradleyTerryJudge:
    """Judges pairs of known texts as the Bradley-Terry model has it.

    The two known texts that a prompt names first are Essay A and Essay B. A beats B with probability
    ``1 / (1 + exp(-(ability A - ability B) / noise))``. The verdict is JSON: ``winner``, ``confidence`` and
    ``justification``, or the fields of the schema that the request asks for.

    Args:
        abilities: Ability in logits of each text, by the text itself or by a marker that stands in the prompt.
        noise: Spread of the draw: 1 is the model's own, 0 always prefers the abler text.
        seed: Makes the draws repeatable in the order in which calls arrive; ``None``: different each time.
        confidence: Range of the confidence where the schema gives none.

    Raises:
        ValueError: fewer than two texts, an empty one, or a negative noise.
    """

    def __init__(
        self,
        abilities: Mapping[str, float],
        *,
        noise: float = 1.0,
        seed: int | None = None,
        confidence: tuple[float, float] = (1.0, 5.0),
    ) -> None:
        if len(abilities) < PAIR or "" in abilities or not noise >= 0.0:
            reason = "a judge needs two texts or more, none empty, and a noise of 0 or more"
            raise ValueError(reason)
        self._abilities = dict(abilities)
        self._noise = noise
        self._seed = secrets.token_hex(16) if seed is None else str(seed)
        self._draws = itertools.count()
        self._confidence = confidence

    def __call__(self, question: Question) -> str:
        """Draw a verdict.

        Raises:
            UnanswerableQuestion: the prompt does not hold two known texts.
        """
        first, second = self.pair_in(question.prompt)
        chance = self.probability(first, second)
        won = self._draw() < chance
        letter, sure = ("A", chance) if won else ("B", 1.0 - chance)
        note = f"Essay {letter} carries its argument further (judgement {question.number}, {uuid.uuid4().hex[:8]})."
        fields = fields_of(question.json_schema) if question.json_schema is not None else {}
        verdict = self._fill(fields, question, note)
        verdict[_winner_field(fields)] = _spelling(fields.get(_winner_field(fields), {}), letter)
        if "confidence" in verdict:
            verdict["confidence"] = self._rate(fields.get("confidence", {}), sure)
        return json.dumps(verdict)

    def pair_in(self, prompt: str) -> tuple[str, str]:
        """Return the two known texts that *prompt* holds, in their order.

        Raises:
            UnanswerableQuestion: it does not hold two.
        """
        spans: list[tuple[int, int, str]] = []
        for text in sorted(self._abilities, key=len, reverse=True):
            start = prompt.find(text)
            # A marker inside a longer one ("essay-1" in "essay-10") is not a find of its own.
            while start >= 0 and any(low <= start < high for low, high, _ in spans):
                start = prompt.find(text, start + 1)
            if start >= 0:
                spans.append((start, start + len(text), text))
        if len(spans) < PAIR:
            reason = f"the judge knows {len(spans)} of the texts in this prompt and needs two"
            raise UnanswerableQuestion(reason)
        (_, _, first), (_, _, second), *_ = sorted(spans)
        return first, second

    def probability(self, first: str, second: str) -> float:
        """Return the probability that *first* beats *second*."""
        ahead = self._abilities[first] - self._abilities[second]
        if self._noise == 0.0:
            return 0.5 if ahead == 0.0 else float(ahead > 0.0)
        return 1.0 / (1.0 + math.exp(-max(-700.0, min(700.0, ahead / self._noise))))

    def _draw(self) -> float:
        # A digest of seed and count is uniform, and the same on every Python.
        digest = hashlib.sha256(f"{self._seed}:{next(self._draws)}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _fill(self, fields: Mapping[str, object], question: Question, note: str) -> dict[str, JsonValue]:
        if question.json_schema is None or not fields:
            return {"winner": None, "confidence": None, "justification": note}
        made = instance_of(question.json_schema, note)
        return dict(made) if isinstance(made, dict) else {}

    def _rate(self, schema: Mapping[str, JsonValue], sure: float) -> JsonValue:
        low, high = self._confidence
        low, high = _bound(schema.get("minimum"), low), _bound(schema.get("maximum"), high)
        rated = round(low + (high - low) * sure, 2)
        return round(rated) if schema.get("type") == "integer" else rated


def _bound(value: JsonValue, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _winner_field(fields: Mapping[str, object]) -> str:
    return next((name for name in WINNER_FIELDS if name in fields), "winner")


def _spelling(schema: Mapping[str, JsonValue], letter: str) -> str:
    choices = schema.get("enum")
    options = [str(choice) for choice in choices] if isinstance(choices, list) else []
    return next((option for option in options if option.upper().endswith(letter)), f"Essay {letter}")
