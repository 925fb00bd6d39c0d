"""Fair queueing gives each flow its share."""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway._core.fairness import FairShare

LIVE = ("a", "live")
BATCH = ("a", "batch")
OTHER = ("b", "batch")


def test_a_flow_goes_in_order() -> None:
    """Tags of one flow rise by cost over weight."""
    share = FairShare()
    assert [share.tag(BATCH, 10) for _ in range(3)] == [0.1, 0.2, 0.30000000000000004]


def test_an_expensive_job_pays_more() -> None:
    """A job of twice the cost puts the next of its flow twice as far back."""
    share = FairShare()
    assert (share.tag(BATCH, 1, cost=2.0), share.tag(BATCH, 1)) == (2.0, 3.0)


def test_a_heavy_flow_passes_a_light_one() -> None:
    """A heavier flow's job gets a smaller tag than a lighter one's that came before."""
    share = FairShare()
    light = share.tag(BATCH, 1)
    assert share.tag(LIVE, 100) < light


def test_an_idle_flow_saves_nothing_up() -> None:
    """A flow that comes late starts from the virtual time, not from zero."""
    share = FairShare()
    share.served(50.0)
    assert share.tag(OTHER, 1) == 51.0


def test_coming_back_costs_a_turn() -> None:
    """A job that comes back stands behind the virtual time and leaves its flow's tags alone."""
    share = FairShare()
    share.tag(BATCH, 1)
    share.served(1.0)
    assert share.reentry(1) == 2.0
    assert share.tag(BATCH, 1) == 2.0


def test_virtual_time_never_goes_back() -> None:
    """Serving a smaller tag than before does not turn the virtual time back."""
    share = FairShare()
    share.served(5.0)
    share.served(3.0)
    assert share.virtual == 5.0


def test_passed_flows_are_forgotten() -> None:
    """A flow is remembered only while its latest tag is ahead of the virtual time."""
    share = FairShare()
    share.tag(BATCH, 1)
    share.tag(BATCH, 1)
    share.tag(OTHER, 1)
    share.served(1.0)
    assert share.flows == 1
    share.served(2.0)
    assert share.flows == 0
    assert share.tag(BATCH, 1) == 3.0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 10, 100])), min_size=1, max_size=60))
def test_nothing_starves_and_memory_is_bounded(arrivals: list[tuple[str, int]]) -> None:
    """Whatever arrives is served in the end, tags are served in order, and afterwards no flow is remembered."""
    share = FairShare()
    waiting: list[tuple[float, int]] = []
    for number, (tenant, weight) in enumerate(arrivals):
        heappush(waiting, (share.tag((tenant, str(weight)), weight), number))
    served: list[float] = []
    while waiting:
        tag, _ = heappop(waiting)
        share.served(tag)
        served.append(tag)
    assert served == sorted(served)
    assert share.flows == 0


def test_shares_follow_weights() -> None:
    """Of 111 jobs served from full flows of weights 100, 10 and 1, about that many are of each."""
    share = FairShare()
    waiting: list[tuple[float, int]] = []
    for weight in (1, 10, 100):
        for _ in range(200):
            heappush(waiting, (share.tag(("a", str(weight)), weight), weight))
    counts = Counter(heappop(waiting)[1] for _ in range(111))
    assert (counts[10] in {9, 10, 11}, counts[1] in {0, 1, 2}) == (True, True)
