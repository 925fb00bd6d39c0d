"""Conformance suites: one for each protocol that a consumer may implement.

Nothing here is imported by ``llm_gateway.testing`` itself: the suites need pytest and hypothesis, which the extra
``testing`` installs. Without them, importing this package is a `MissingDependencyError` that says so.
"""

from __future__ import annotations

from llm_gateway.errors import MissingDependencyError

try:
    from llm_gateway.testing.conformance.model import QueueMachine
    from llm_gateway.testing.conformance.queue import QueueConformance
except ModuleNotFoundError as error:
    if error.name not in {"hypothesis", "pytest"}:
        raise
    message = f"The conformance suites need {error.name}."
    raise MissingDependencyError(message, next_step="Run: pip install 'llm-gateway[testing]'") from None

__all__ = ["QueueConformance", "QueueMachine"]
