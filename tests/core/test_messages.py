"""Messages made of parts."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from llm_gateway import Message
from llm_gateway._core.messages import TextPart
from llm_gateway.errors import InvalidRequest

CANARY = "the quiet heron folded seven umbrellas"


def test_roles() -> None:
    """Each short form makes one text part for its role."""
    made = [Message.system("a"), Message.user("b"), Message.assistant("c")]
    assert [(message.role, message.text) for message in made] == [("system", "a"), ("user", "b"), ("assistant", "c")]


def test_parts_are_joined() -> None:
    """The text of a message is that of its parts in order."""
    assert Message(role="user", parts=(TextPart(text="a "), TextPart(text="b"))).text == "a b"


def test_round_trip() -> None:
    """A message is read back from its JSON."""
    message = Message.user("ä\u2028\U0001f600")
    assert Message.model_validate_json(message.model_dump_json()) == message


def test_repr_hides_text() -> None:
    """The text of a message is not in its repr."""
    assert CANARY not in repr(Message.user(CANARY))


@pytest.mark.parametrize(
    "given",
    [
        {"role": "user", "parts": []},
        {"role": CANARY, "parts": [{"text": "a"}]},
        {"role": "user", "parts": [{"text": ""}]},
        {"role": "user", "parts": [{"type": CANARY, "text": "a"}]},
        {"role": "user", "parts": [{"text": "a", CANARY: 1}]},
        {"role": "user"},
        CANARY,
    ],
)
def test_refused(given: JsonValue) -> None:
    """What is no message is an invalid request that echoes nothing."""
    with pytest.raises(InvalidRequest) as caught:
        Message.model_validate(given)
    assert CANARY not in f"{caught.value!s}{caught.value!r}"
