"""The transitions of the queue as scripts that run inside Redis, each atomic with its counters and its event."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final

__all__ = ["Script", "Source", "source_of"]

# From 7.0 on a script says in its first line what it may do; a full server still lets it drain.
DRAINS: Final = "#!lua flags=allow-oom\n"
PLAIN: Final = "#!lua\n"


class Script(StrEnum):
    """Every script, by its file."""

    CONDEMN = "condemn"
    OPEN = "open"
    SUBMIT = "submit"
    CLAIM = "claim"
    EXTEND = "extend"
    FINISH = "finish"
    CANCEL = "cancel"
    SWEEP = "sweep"
    RESUME = "resume"
    GATE = "gate"
    KEEP = "keep"
    DROP = "drop"
    LOOK = "look"
    SHOW = "show"
    TELL = "tell"
    MISSED = "missed"
    RELAY = "relay"
    PIN = "pin"


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a script, and the digest under which the server keeps it."""

    text: str
    digest: str


@cache
def source_of(script: Script, *, flags: bool) -> Source:
    """Return a script as a server takes it: with its flags from 7.0 on."""
    folder = files(__package__ or "")
    text = "\n".join((folder / name).read_text("utf-8") for name in ("_prelude.lua", f"{script.value}.lua"))
    if flags:
        text = (PLAIN if script is Script.SUBMIT else DRAINS) + text
    return Source(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
