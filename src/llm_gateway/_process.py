"""What the process itself says about where it runs."""

from __future__ import annotations

import os
from typing import Final

from llm_gateway._core.environments import Environment, parse_environment

__all__ = ["environment_of_process"]

VARIABLES: Final = ("LLM_GATEWAY_ENVIRONMENT", "ENVIRONMENT")


def environment_of_process(*, given: Environment | None = None) -> Environment:
    """Read ``LLM_GATEWAY_ENVIRONMENT``, else ``ENVIRONMENT``; unset means production. What was *given* beats both.

    Raises:
        ConfigurationError: the value names no environment.
    """
    if given is not None:
        return parse_environment(given)
    value = next((found for name in VARIABLES if (found := os.environ.get(name))), None)
    return parse_environment(value) if value else Environment.PRODUCTION
