"""The sorted index agrees with a sorted list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.queues.memory.index import SortedIndex

STEPS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.none() | st.integers(0, 5)), max_size=80)


@given(STEPS, st.integers(0, 5))
def test_agrees_with_a_sorted_list(steps: list[tuple[str, int | None]], until: int) -> None:
    """After any puts, moves and removals, first, rank, due and length are those of a sorted list."""
    index, model = SortedIndex(), dict[str, tuple[int, int]]()
    for number, (key, order) in enumerate(steps):
        model.pop(key, None)
        if order is None:
            index.discard(key)
        else:
            index.put(key, order)
            model[key] = (order, number)
        expected = sorted(model, key=model.__getitem__)
        assert len(index) == len(expected)
        assert index.first() == ((model[expected[0]][0], expected[0]) if expected else None)
        assert [index.rank(key) for key in expected] == list(range(len(expected)))
    expected = [key for key in sorted(model, key=model.__getitem__) if model[key][0] <= until]
    assert index.due(until) == expected
    assert index.due(until, 2) == expected[:2]
    assert index.rank("z") is None
    assert ("a" in index) == ("a" in model)


class OpenIndex(SortedIndex):
    """An index that shows how much it holds."""

    @property
    def held(self) -> int:
        """Entries in memory, served ones included."""
        return len(self._entries)


def test_served_entries_are_let_go() -> None:
    """An index that is filled and emptied again and again does not grow."""
    index = OpenIndex()
    for number in range(1_000):
        index.put(f"k{number}", number)
        if number >= 10:
            index.discard(f"k{number - 10}")
    assert index.held <= 2 * len(index) + 2
