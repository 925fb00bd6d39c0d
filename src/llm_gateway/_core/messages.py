"""What is said to a model: messages made of parts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llm_gateway._core.checked import CheckedModel

__all__ = ["Message", "Role", "TextPart", "spoken"]

Role = Literal["system", "user", "assistant"]


class TextPart(CheckedModel):
    """A piece of text. It is left out of ``repr``."""

    type: Literal["text"] = "text"
    text: Annotated[str, Field(min_length=1, repr=False)]


class Message(CheckedModel):
    """One turn of a conversation.

    Attributes:
        role: Who speaks.
        parts: What is said, in order.
    """

    role: Role
    parts: Annotated[tuple[TextPart, ...], Field(min_length=1)]

    @classmethod
    def system(cls, text: str) -> Message:
        """Make an instruction that stands above the conversation."""
        return cls(role="system", parts=(TextPart(text=text),))

    @classmethod
    def user(cls, text: str) -> Message:
        """Make what the asker says."""
        return cls(role="user", parts=(TextPart(text=text),))

    @classmethod
    def assistant(cls, text: str) -> Message:
        """Make what the model said earlier."""
        return cls(role="assistant", parts=(TextPart(text=text),))

    @property
    def text(self) -> str:
        """The text of all parts, joined."""
        return "".join(part.text for part in self.parts)


def spoken(role: Role, text: str) -> Message:
    """Make a message of text that has been checked already."""
    return Message.model_construct(role=role, parts=(TextPart.model_construct(text=text),))
