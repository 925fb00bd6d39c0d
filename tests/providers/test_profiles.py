"""Which parameters a model takes, and which served model counts as the one that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest
from pydantic import JsonValue

from llm_gateway import LLMRequest
from llm_gateway.errors import UnsupportedParameter
from llm_gateway.providers._profiles import ANTHROPIC, OPENAI, Profile, unsupported
from llm_gateway.providers._snapshots import is_snapshot

CASES: Final[list[tuple[Mapping[str, Profile], str, dict[str, JsonValue], set[str]]]] = [
    (OPENAI, "gpt-5.2", {"temperature": 0.0}, {"temperature"}),
    (OPENAI, "gpt-5.2", {"temperature": 1.0}, set()),
    (OPENAI, "gpt-5.2", {"temperature": 0.0, "reasoning_effort": "none"}, set()),
    (OPENAI, "gpt-5.2", {"verbosity": "low", "reasoning_effort": "high", "seed": 7}, set()),
    (OPENAI, "o3-mini", {"temperature": 0.2}, {"temperature"}),
    (OPENAI, "gpt-4o", {"reasoning_effort": "low", "verbosity": "low"}, {"reasoning_effort", "verbosity"}),
    (OPENAI, "gpt-4.1-mini", {"temperature": 0.0, "seed": 1}, set()),
    (OPENAI, "ft:gpt-4o:org::1", {"verbosity": "low"}, {"verbosity"}),
    (OPENAI, "gpt-5-chat-latest", {"temperature": 0.0}, set()),
    (OPENAI, "brand-new", {"temperature": 0.0, "verbosity": "low", "reasoning_effort": "max", "seed": 1}, set()),
    (ANTHROPIC, "claude-haiku-4-5", {"temperature": 0.0}, set()),
    (ANTHROPIC, "claude-haiku-4-5", {"temperature": 1.5}, {"temperature"}),
    (ANTHROPIC, "claude-haiku-4-5", {"seed": 1, "verbosity": "low"}, {"seed", "verbosity"}),
    (ANTHROPIC, "claude-opus-4-7", {"temperature": 1.0}, {"temperature"}),
    (ANTHROPIC, "claude-opus-5-5", {"temperature": 0.0}, {"temperature"}),
    (ANTHROPIC, "claude-sonnet-5-5", {"temperature": 0.0}, {"temperature"}),
    (ANTHROPIC, "claude-opus-4-6", {"reasoning_effort": "max"}, set()),
    (ANTHROPIC, "claude-opus-4-6", {"reasoning_effort": "none"}, {"reasoning_effort"}),
]


@pytest.mark.parametrize(("profiles", "model", "given", "rejected"), CASES)
def test_what_a_model_does_not_take(
    profiles: Mapping[str, Profile], model: str, given: dict[str, JsonValue], rejected: set[str]
) -> None:
    """A parameter that the model rejects is refused by name, or left out where that was asked for."""
    asked = {"provider": "p", "model": model, "prompt": "Hi", **given}
    assert rejected == unsupported(LLMRequest.model_validate(asked | {"drop_unsupported": True}), profiles)
    if not rejected:
        assert set() == unsupported(LLMRequest.model_validate(asked), profiles)
        return
    with pytest.raises(UnsupportedParameter) as refused:
        unsupported(LLMRequest.model_validate(asked), profiles)
    assert [True] * len(rejected) == [name in str(refused.value) for name in sorted(rejected)]


@pytest.mark.parametrize(
    ("served", "asked"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("gpt-4-0613", "gpt-4"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet-latest"),
    ],
)
def test_a_dated_snapshot_is_the_model(served: str, asked: str) -> None:
    """The model itself and the dated snapshot of its alias both count."""
    assert is_snapshot(served, of=asked)


@pytest.mark.parametrize(
    ("served", "asked"),
    [
        ("gpt-4o-mini", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-11-20", "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-08-06-mini", "gpt-4o"),
        ("claude-haiku-4-5-2025100", "claude-haiku-4-5"),
        ("claude-opus-4-5-20251101", "claude-haiku-4-5"),
        ("gpt-4", "gpt-4o"),
        ("", "gpt-4o"),
        ("GPT-4O", "gpt-4o"),
        ("gpt-4o-\u0662\u0660\u0662\u0664-08-06", "gpt-4o"),
    ],
)
def test_nothing_else_is_the_model(served: str, asked: str) -> None:
    """A smaller, larger, other or otherwise dated model is another model."""
    assert not is_snapshot(served, of=asked)
