"""Accounts that someone has to mend: no money, or a refused key.

A latched account refuses every call at once but for one canary in each `CANARY` seconds; a canary that succeeds
opens the latch. ``now`` is monotonic seconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from llm_gateway.errors import LLMGatewayError

__all__ = ["CANARY", "Latches"]

CANARY: Final = 900.0


class _Latch(NamedTuple):
    error: LLMGatewayError
    canary_at: float


class Latches:
    """The latched accounts of one process, by endpoint and key id."""

    __slots__ = ("_closed",)

    def __init__(self) -> None:
        self._closed: dict[tuple[str, str], _Latch] = {}

    def close(self, account: tuple[str, str], error: LLMGatewayError, now: float) -> bool:
        """Latch an account; True when it was not latched before, which is the time to raise the alarm."""
        fresh = account not in self._closed
        self._closed[account] = _Latch(error, now + CANARY)
        return fresh

    def open(self, account: tuple[str, str]) -> bool:
        """Let calls through again; True when the account was latched."""
        return bool(self._closed) and self._closed.pop(account, None) is not None

    def refusal(self, account: tuple[str, str], now: float) -> LLMGatewayError | None:
        """Return the error that latched the account, or ``None`` when a call may go, as a canary or freely."""
        latch = self._closed.get(account)
        return None if latch is None or now >= latch.canary_at else latch.error

    def due(self, account: tuple[str, str], now: float) -> bool:
        """Whether a call of the account would go out now."""
        return self.refusal(account, now) is None

    def take_canary(self, account: tuple[str, str], now: float) -> bool:
        """Note that a call goes out now; True when it is a canary, and the next has to wait."""
        latch = self._closed.get(account)
        if latch is None:
            return False
        self._closed[account] = latch._replace(canary_at=now + CANARY)
        return True

    def give_back(self, account: tuple[str, str], now: float) -> None:
        """Let the next call be the canary: the last one never reached the provider."""
        latch = self._closed.get(account)
        if latch is not None:
            self._closed[account] = latch._replace(canary_at=now)

    def canary_in(self, account: tuple[str, str], now: float) -> float:
        """Seconds until the next canary may go; 0 when the account is not latched."""
        latch = self._closed.get(account)
        return max(latch.canary_at - now, 0.0) if latch is not None else 0.0

    def latched(self, account: tuple[str, str]) -> bool:
        """Whether the account is latched."""
        return account in self._closed
