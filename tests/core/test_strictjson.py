"""JSON as the standard has it, and refusals that show no piece of the text."""

from __future__ import annotations

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway._core.strictjson import NotJson, loads

CANARY = "the quiet heron folded seven umbrellas"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_reads_what_json_writes(value: object) -> None:
    """Every JSON value is read as it was written, from text and from bytes."""
    text = json.dumps(value)
    assert (loads(text), loads(text.encode())) == (value, value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ('{"a": 1e999}', "a number is out of range"),
        ("[-1e999]", "a number is out of range"),
        (b'"\xff"', "invalid UTF-8 at byte 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1} x', "Extra data at character 9"),
        ("", "Expecting value at character 0"),
    ],
)
def test_refuses(text: str | bytes, reason: str) -> None:
    """What is not strict JSON is refused, with the reason."""
    with pytest.raises(NotJson) as caught:
        loads(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize("text", [CANARY, f'{{"a": "{CANARY}', f'{{"{CANARY}": NaN}}', f'"{CANARY}" 1'])
def test_shows_nothing(text: str) -> None:
    """No refusal shows a piece of the text, also not in its traceback."""
    with pytest.raises(NotJson) as caught:
        loads(text)
    error = caught.value
    shown = f"{error!s}{error!r}{error.args}{error.__cause__!r}"
    assert CANARY not in shown
    # A JSONDecodeError holds the whole text as its ``doc``: it must not hang on.
    assert not isinstance(error.__context__, json.JSONDecodeError)
    assert "JSONDecodeError" not in "".join(traceback.format_exception(error))
