"""An account that someone has to mend refuses calls, but for a canary now and then."""

from __future__ import annotations

import pytest

from llm_gateway._core.latch import CANARY, Latches
from llm_gateway.errors import QuotaExhausted

ACCOUNT = ("api.test", "k-1")
OTHER = ("api.test", "k-2")
EMPTY = QuotaExhausted("No money.")


@pytest.fixture
def latches() -> Latches:
    """Latches of which one account's was closed at second 0."""
    closed = Latches()
    assert closed.close(ACCOUNT, EMPTY, 0.0)
    return closed


def test_open_at_first() -> None:
    """An account nobody latched lets every call through."""
    fresh = Latches()
    assert (fresh.refusal(ACCOUNT, 0.0), fresh.due(ACCOUNT, 0.0), fresh.latched(ACCOUNT)) == (None, True, False)


def test_refuses_with_its_cause(latches: Latches) -> None:
    """A latched account refuses with the error that latched it."""
    assert (latches.refusal(ACCOUNT, 1.0), latches.due(ACCOUNT, 1.0)) == (EMPTY, False)


def test_other_accounts(latches: Latches) -> None:
    """Another key at the same host is not touched."""
    assert (latches.refusal(OTHER, 1.0), latches.latched(OTHER)) == (None, False)


def test_alarm_once(latches: Latches) -> None:
    """Only the first closing is news, until the latch has been opened again."""
    assert not latches.close(ACCOUNT, EMPTY, 5.0)
    assert latches.open(ACCOUNT)
    assert latches.close(ACCOUNT, EMPTY, 6.0)


def test_one_canary(latches: Latches) -> None:
    """When the canary is due one call goes out and the next is refused."""
    assert latches.refusal(ACCOUNT, CANARY - 0.1) is EMPTY
    assert latches.take_canary(ACCOUNT, CANARY)
    replies = [latches.refusal(ACCOUNT, now) for now in (CANARY, 2 * CANARY - 0.1, 2 * CANARY)]
    assert replies == [EMPTY, EMPTY, None]


def test_asking_takes_no_canary(latches: Latches) -> None:
    """Asking whether a canary is due does not send it."""
    assert (latches.due(ACCOUNT, CANARY), latches.due(ACCOUNT, CANARY)) == (True, True)
    assert latches.refusal(ACCOUNT, CANARY) is None


def test_canary_given_back(latches: Latches) -> None:
    """A canary that was not sent leaves its place to the next call."""
    assert latches.take_canary(ACCOUNT, CANARY)
    latches.give_back(ACCOUNT, CANARY + 1.0)
    assert (latches.refusal(ACCOUNT, CANARY + 1.0), latches.canary_in(ACCOUNT, CANARY + 1.0)) == (None, 0.0)


def test_no_canary_of_an_open_account(latches: Latches) -> None:
    """A call of an account that is not latched is no canary, and giving it back latches nothing."""
    assert not latches.take_canary(OTHER, 1.0)
    latches.give_back(OTHER, 1.0)
    assert not latches.latched(OTHER)


def test_failed_canary(latches: Latches) -> None:
    """A canary that fails puts the next one off."""
    assert latches.take_canary(ACCOUNT, CANARY)
    latches.close(ACCOUNT, EMPTY, CANARY + 10.0)
    assert latches.refusal(ACCOUNT, 2 * CANARY) is EMPTY


def test_open(latches: Latches) -> None:
    """A success opens the latch, once."""
    assert (latches.open(ACCOUNT), latches.open(ACCOUNT)) == (True, False)
    assert latches.refusal(ACCOUNT, 1.0) is None
