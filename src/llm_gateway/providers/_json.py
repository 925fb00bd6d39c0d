"""Reading JSON that someone else wrote: each accessor gives the value in its type, or nothing."""

from __future__ import annotations

from pydantic import JsonValue

__all__ = ["list_at", "object_at", "text_at"]


def object_at(value: JsonValue, *path: str) -> dict[str, JsonValue]:
    """Return the object at *path*, or an empty one."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def list_at(value: JsonValue, name: str) -> list[JsonValue]:
    """Return the list under *name*, or an empty one."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def text_at(value: JsonValue, name: str) -> str | None:
    """Return the text under *name*."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None
