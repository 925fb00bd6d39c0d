"""The four environments and what each permits."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from llm_gateway.errors import ConfigurationError

__all__ = ["EVERYWHERE", "WORKSHOP", "Environment", "EnvironmentType", "parse_environment"]


class Environment(StrEnum):
    """Where the process runs. Compared by value, so another enum with the same values can be passed."""

    DEVELOPMENT = "development"
    TESTING = "testing"
    STAGING = "staging"
    PRODUCTION = "production"

    @property
    def strict(self) -> bool:
        """Whether the promises hold by construction here: staging and production."""
        return self not in WORKSHOP


EnvironmentType = Environment
EVERYWHERE: Final = frozenset(Environment)
WORKSHOP: Final = frozenset({Environment.DEVELOPMENT, Environment.TESTING})


def parse_environment(value: str) -> Environment:
    """Return the environment that *value* names.

    Raises:
        ConfigurationError: when it names none of the four.
    """
    try:
        return Environment(str(getattr(value, "value", value)).strip().lower())
    except ValueError:
        known = ", ".join(member.value for member in Environment)
        message = f"The environment {str(value)[:40]!r} is unknown."
        raise ConfigurationError(message, next_step=f"Set ENVIRONMENT to one of: {known}.") from None
