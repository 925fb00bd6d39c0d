"""JSON as RFC 8259 has it: no NaN, no Infinity, no number that overflows to one, valid UTF-8."""

from __future__ import annotations

import json
import math
from typing import Final, cast

from pydantic import JsonValue

__all__ = ["NotJson", "loads"]

MAX_DEPTH_REASON: Final = "nested too deeply"
OUT_OF_RANGE_REASON: Final = "a number is out of range"


class NotJson(ValueError):
    """The text is not strict JSON. Holds no piece of it."""


def loads(text: str | bytes) -> JsonValue:
    """Parse *text*.

    Raises:
        NotJson: with the reason, and without the text.
    """
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        reason = f"invalid UTF-8 at byte {error.start}"
        raise NotJson(reason) from None
    try:
        return cast("JsonValue", _DECODER.decode(decoded))
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos}"
    except NotJson:
        raise
    except ValueError:
        # Python refuses to read whole numbers of more digits than anyone means.
        reason = OUT_OF_RANGE_REASON
    except RecursionError:
        reason = MAX_DEPTH_REASON
    raise NotJson(reason)


def _refuse_constant(name: str) -> float:
    reason = f"{name} is not JSON"
    raise NotJson(reason)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotJson(OUT_OF_RANGE_REASON)
    return number


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
