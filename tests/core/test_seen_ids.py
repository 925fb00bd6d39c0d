"""Which response ids are remembered."""

from __future__ import annotations

from llm_gateway._core.freshness import SeenIds


def test_the_oldest_is_forgotten() -> None:
    """Beyond the limit the oldest id goes, for a replay is most likely to be of a recent answer."""
    seen = SeenIds(limit=2)
    for response_id in ("a", "b", "c"):
        seen.add(response_id)
    assert ["b", "c"] == [response_id for response_id in ("a", "b", "c") if response_id in seen]


def test_an_answer_without_an_id_is_not_remembered() -> None:
    """Two answers without an id are not taken for the same one."""
    seen = SeenIds(limit=1)
    seen.add("a")
    seen.add(None)
    assert (True, False) == ("a" in seen, None in seen)
