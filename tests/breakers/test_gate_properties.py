"""What holds for a gate under any order of calls, outcomes, waits and operators' orders.

Two gates are driven side by side. The second is not told what must have no effect: outcomes of an older epoch,
of probes whose lease has ended, and of ignored calls that held no probe. Both must always answer alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitState, Level, Permit, Rejection
from llm_gateway._core.jobs import Lane
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.options import BreakerOptions
from llm_gateway.testing.clock import FakeClock

Place = tuple[str, Lane | None]

LEASE: Final = 30.0
LANES: Final = (Lane("vendor", "large"), Lane("vendor", "small"))
KEYS: Final = (
    CircuitKey("api.example.com", LANES[0]),
    CircuitKey("api.example.com", LANES[1]),
    CircuitKey("eu.example.com", LANES[0]),
)


@dataclass(frozen=True)
class Call:
    """A call under way, with the epochs of its circuits and the circuits it probes."""

    permit: Permit
    epochs: dict[Place, int]
    probes: frozenset[Place]
    lease_ends: float


def places(key: CircuitKey) -> tuple[Place, Place]:
    return (key.endpoint, None), (key.endpoint, key.lane)


def give_back(gate: CircuitGate, permit: Permit, outcome: str) -> None:
    if outcome == "success":
        gate.success(permit)
    elif outcome == "ignore":
        gate.ignore(permit)
    else:
        gate.failure(permit, Level(outcome))


class GateMachine(RuleBasedStateMachine):
    """Drives both gates and keeps the books."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.calls: list[Call] = []
        self.forced: set[Lane] = set()
        self.epochs = Counter[Place]()
        self.states: dict[Place, CircuitState] = {}
        self.successes = Counter[Place]()
        self.closed_by_probes: list[int] = []

    @initialize(max_probes=st.integers(1, 3), success_threshold=st.integers(1, 3))
    def build(self, max_probes: int, success_threshold: int) -> None:
        """Make the two gates."""
        self.options = BreakerOptions(
            consecutive_failures=2,
            minimum_calls=4,
            open_time=10.0,
            open_time_cap=40.0,
            max_probes=max_probes,
            success_threshold=success_threshold,
            probe_lease=LEASE,
        )
        self.gate = CircuitGate(self.options, clock=self.clock, random=lambda: 0.5)
        self.sparse = CircuitGate(self.options, clock=self.clock, random=lambda: 0.5)
        self.gate.subscribe(self.note)

    def note(self, change: CircuitChange) -> None:
        """Follow a transition."""
        place = (change.endpoint, change.lane)
        if (change.old, change.new) == (CircuitState.HALF_OPEN, CircuitState.CLOSED):
            self.closed_by_probes.append(self.successes[place])
        self.epochs[place] += 1
        self.successes[place] = 0
        self.states[place] = change.new

    def probing(self, place: Place) -> int:
        """Calls under way that hold a probe slot there."""
        return sum(place in call.probes and self.counts_at(call, place) for call in self.calls)

    def counts_at(self, call: Call, place: Place) -> bool:
        """Whether an outcome of *call* still concerns the circuit at *place*."""
        leased = place not in call.probes or call.lease_ends > self.clock.monotonic()
        return call.epochs[place] == self.epochs[place] and leased

    @rule(key=st.sampled_from(KEYS))
    def acquire(self, key: CircuitKey) -> None:
        """A call is admitted exactly when no circuit is open and every half-open one has a slot."""
        before = self.gate.snapshot(key)
        busy = any(self.probing(place) >= self.options.max_probes for place in places(key))
        reply = self.gate.acquire(key)
        assert reply == self.sparse.acquire(key)
        assert isinstance(reply, Rejection) == (before.forced or before.retry_in > 0.0 or busy)
        assert isinstance(reply, Rejection) or key.lane not in self.forced
        if isinstance(reply, Permit):
            probes = frozenset(p for p in places(key) if self.states.get(p) is CircuitState.HALF_OPEN)
            assert bool(probes) == bool(reply.probe)
            epochs = {place: self.epochs[place] for place in places(key)}
            self.calls.append(Call(reply, epochs, probes, self.clock.monotonic() + LEASE))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), outcome=st.sampled_from(["success", "ignore", "model", "endpoint"]))
    def finish(self, data: st.DataObject, outcome: str) -> None:
        """A call ends, early or late."""
        call = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        current = [place for place in places(call.permit.key) if self.counts_at(call, place)]
        for place in call.probes.intersection(current):
            self.successes[place] += outcome == "success" or (outcome == "model" and place[1] is None)
        give_back(self.gate, call.permit, outcome)
        if current and (outcome != "ignore" or call.probes):
            give_back(self.sparse, call.permit, outcome)
        assert all(count == self.options.success_threshold for count in self.closed_by_probes)

    @rule(seconds=st.sampled_from([0.1, 5.0, 10.0, LEASE, 70.0, 400.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule(lane=st.sampled_from(LANES))
    def force_open(self, lane: Lane) -> None:
        """An operator holds a lane open."""
        self.forced.add(lane)
        self.gate.force_open(lane)
        self.sparse.force_open(lane)

    @rule(lane=st.sampled_from([*LANES, None]))
    def reset(self, lane: Lane | None) -> None:
        """An operator resets a lane or all; what is under way there counts nothing any more."""
        self.forced = {forced for forced in self.forced if lane not in (forced, None)}
        self.gate.reset(lane)
        self.sparse.reset(lane)
        self.closed_by_probes.clear()
        for place in {place for key in KEYS for place in places(key) if lane in (None, place[1])}:
            self.epochs[place] += 1
            self.successes[place] = 0

    @invariant()
    def both_gates_agree(self) -> None:
        """What must have no effect had none, and looking changes nothing."""
        assert [self.gate.snapshot(key) for key in KEYS] == [self.sparse.snapshot(key) for key in KEYS]

    @invariant()
    def slots_are_conserved(self) -> None:
        """A slot is taken exactly while a call under way holds it, and never more than allowed."""
        for key in KEYS:
            endpoint, lane = places(key)
            snapshot = self.gate.snapshot(key)
            assert snapshot.probes <= self.options.max_probes
            if snapshot.state is CircuitState.HALF_OPEN and self.states.get(endpoint) is not snapshot.state:
                assert self.probing(lane) == snapshot.probes


GateMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestGate = GateMachine.TestCase
TestGate.__doc__ = "Slots are conserved, stale and ignored outcomes have no effect, forced lanes admit nothing."
