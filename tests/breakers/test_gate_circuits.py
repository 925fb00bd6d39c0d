"""Many circuits in one gate: endpoints and lanes, operators' orders, listeners, memory, import cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitSnapshot, CircuitState, Level, Permit, Rejection
from llm_gateway._core.environments import EVERYWHERE
from llm_gateway._core.jobs import Lane
from llm_gateway.breakers.gate import MANY_CIRCUITS, CircuitGate
from llm_gateway.options import BreakerOptions
from llm_gateway.testing.clock import FakeClock

LARGE = CircuitKey("api.example.com", Lane("vendor", "large"))
SMALL = CircuitKey("api.example.com", Lane("vendor", "small"))
ABROAD = CircuitKey("eu.example.com", LARGE.lane)
CLOSED = CircuitSnapshot(state=CircuitState.CLOSED)
FORCED = CircuitSnapshot(state=CircuitState.OPEN, retry_in=300.0, forced=True)
FRESH_PROCESS = """
import sys
from llm_gateway._core.circuit import CircuitKey, Level
from llm_gateway._core.jobs import Lane
from llm_gateway.breakers.gate import CircuitGate
gate, key = CircuitGate(), CircuitKey("api.example.com", Lane("vendor", "large"))
gate.success(gate.acquire(key))
gate.failure(gate.acquire(key), Level.MODEL)
seen = ["pybreaker" in sys.modules]
for _ in range(4):
    gate.failure(gate.acquire(key), Level.MODEL)
print(seen + ["pybreaker" in sys.modules])
"""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gate(clock: FakeClock) -> CircuitGate:
    return CircuitGate(clock=clock, random=lambda: 0.5)


def admitted(gate: CircuitGate, key: CircuitKey) -> Permit:
    permit = gate.acquire(key)
    assert isinstance(permit, Permit)
    return permit


def trip(gate: CircuitGate, key: CircuitKey, level: Level = Level.MODEL) -> None:
    for _ in range(BreakerOptions().consecutive_failures):
        gate.failure(admitted(gate, key), level)


def states(gate: CircuitGate, *keys: CircuitKey) -> list[str]:
    return [gate.snapshot(key).state.value for key in keys]


# Endpoints and lanes.


def test_a_models_outage_stops_its_own_lane(gate: CircuitGate) -> None:
    """Neither another model there nor the same model elsewhere is touched."""
    trip(gate, LARGE)
    assert states(gate, LARGE, SMALL, ABROAD) == ["open", "closed", "closed"]
    assert isinstance(gate.acquire(SMALL), Permit)


def test_an_endpoints_outage_stops_all_its_lanes(gate: CircuitGate) -> None:
    """Every model there is refused, also one that was never called; other endpoints are not."""
    trip(gate, LARGE, Level.ENDPOINT)
    assert states(gate, LARGE, SMALL, ABROAD) == ["open", "open", "closed"]
    assert gate.acquire(SMALL) == Rejection(CircuitState.OPEN, 15.0)


def test_endpoint_failures_of_several_lanes_add_up(gate: CircuitGate) -> None:
    """The endpoint's circuit counts for all its lanes."""
    for key in (LARGE, SMALL, LARGE, SMALL, LARGE):
        gate.failure(admitted(gate, key), Level.ENDPOINT)
    assert states(gate, LARGE, SMALL) == ["open", "open"]


def test_a_failing_model_proves_its_endpoint_reachable(gate: CircuitGate, clock: FakeClock) -> None:
    """A model's failure is an answer to a probe of the endpoint, and ends a row of the endpoint's failures."""
    trip(gate, LARGE, Level.ENDPOINT)
    clock.advance(15.0)
    for _ in range(2):
        gate.failure(admitted(gate, LARGE), Level.MODEL)
    closed = states(gate, LARGE)
    for level in (*[Level.ENDPOINT] * 4, Level.MODEL, Level.ENDPOINT):
        gate.failure(admitted(gate, LARGE), level)
    assert (closed, states(gate, SMALL)) == (["closed"], ["closed"])


def test_an_endpoints_failure_counts_nothing_for_the_model(gate: CircuitGate, clock: FakeClock) -> None:
    """A model's probe that never reached it gives its slot back and leaves the model half-open."""
    trip(gate, LARGE)
    clock.advance(15.0)
    gate.failure(admitted(gate, LARGE), Level.ENDPOINT)
    assert gate.snapshot(LARGE) == CircuitSnapshot(state=CircuitState.HALF_OPEN)


def both_open(gate: CircuitGate, clock: FakeClock) -> None:
    """Trip the model's circuit first, then its endpoint's, and wait until both may be probed."""
    trip(gate, LARGE)
    trip(gate, SMALL, Level.ENDPOINT)
    clock.advance(15.0)


def test_one_probe_serves_both_circuits(gate: CircuitGate, clock: FakeClock) -> None:
    """It takes a slot of each, and its success counts for each."""
    both_open(gate, clock)
    probe = admitted(gate, LARGE)
    during = [gate.snapshot(LARGE).probes, gate.snapshot(SMALL).probes]
    gate.success(probe)
    gate.success(admitted(gate, LARGE))
    assert (during, states(gate, LARGE, SMALL)) == ([1, 1], ["closed", "closed"])


def test_a_refused_call_takes_no_slot_of_either(gate: CircuitGate, clock: FakeClock) -> None:
    """When the endpoint's slot is busy, the model's circuit does not even begin to probe."""
    both_open(gate, clock)
    probe = admitted(gate, SMALL)
    refused = gate.acquire(LARGE)
    gate.ignore(probe)
    assert refused == Rejection(CircuitState.HALF_OPEN, 15.0, probes_busy=True)
    assert gate.snapshot(LARGE) == CircuitSnapshot(state=CircuitState.OPEN)
    assert isinstance(gate.acquire(LARGE), Permit)


def test_the_longer_wait_of_two_open_circuits_is_told(gate: CircuitGate) -> None:
    """The model's circuit waits for its Retry-After, longer than the endpoint's open time."""
    for _ in range(5):
        gate.failure(admitted(gate, LARGE), Level.MODEL, retry_after=100.0)
    trip(gate, SMALL, Level.ENDPOINT)
    assert gate.acquire(LARGE) == Rejection(CircuitState.OPEN, 100.0)


def test_an_open_circuit_is_told_rather_than_a_half_open_one(gate: CircuitGate, clock: FakeClock) -> None:
    """Also when the half-open one asks for the longer wait."""
    for _ in range(5):
        gate.failure(admitted(gate, LARGE), Level.MODEL, retry_after=20.0)
    trip(gate, SMALL, Level.ENDPOINT)
    clock.advance(15.0)
    admitted(gate, SMALL)
    assert gate.acquire(LARGE) == Rejection(CircuitState.OPEN, 5.0)
    assert gate.snapshot(LARGE) == CircuitSnapshot(state=CircuitState.OPEN, retry_in=5.0)


# Operators' orders.


def test_a_forced_lane_admits_nothing(gate: CircuitGate, clock: FakeClock) -> None:
    """It stays open at every endpoint, however long, also where it is used for the first time."""
    admitted(gate, LARGE)
    gate.force_open(LARGE.lane)
    before_use = gate.snapshot(ABROAD)
    clock.advance(100_000.0)
    refusals = [gate.acquire(LARGE), gate.acquire(ABROAD)]
    assert refusals == [Rejection(CircuitState.OPEN, 300.0)] * 2
    assert [before_use, gate.snapshot(LARGE), gate.snapshot(ABROAD)] == [FORCED] * 3
    assert isinstance(gate.acquire(SMALL), Permit)


def test_listeners_learn_of_a_lane_forced_before_its_first_use(gate: CircuitGate) -> None:
    """The transition is told when the circuit is made, although the call is refused."""
    changes: list[CircuitChange] = []
    gate.subscribe(changes.append)
    gate.force_open(LARGE.lane)
    gate.acquire(LARGE)
    assert changes == [CircuitChange(LARGE.endpoint, LARGE.lane, CircuitState.CLOSED, CircuitState.OPEN, 300.0)]


def test_an_order_is_told_whatever_the_endpoint_does(gate: CircuitGate) -> None:
    """A forced lane says so although its endpoint is open for longer."""
    for _ in range(5):
        gate.failure(admitted(gate, LARGE), Level.ENDPOINT, retry_after=1_000.0)
    gate.force_open(LARGE.lane)
    assert gate.snapshot(LARGE) == FORCED


def test_forcing_an_open_circuit_holds_it(gate: CircuitGate, clock: FakeClock) -> None:
    """A circuit that was open already does not probe when its time has passed."""
    trip(gate, LARGE)
    gate.force_open(LARGE.lane)
    clock.advance(1_000.0)
    assert gate.acquire(LARGE) == Rejection(CircuitState.OPEN, 300.0)


def test_calls_under_way_do_not_close_a_forced_lane(gate: CircuitGate, clock: FakeClock) -> None:
    """Neither an ordinary call nor a probe undoes the order."""
    trip(gate, LARGE)
    clock.advance(15.0)
    probe = admitted(gate, LARGE)
    gate.force_open(LARGE.lane)
    gate.success(probe)
    gate.success(probe)
    assert gate.snapshot(LARGE) == FORCED


def test_reset_closes_a_lane_everywhere(gate: CircuitGate) -> None:
    """Forced or tripped, its circuits close; later ones are not forced; other lanes stay as they are."""
    trip(gate, SMALL)
    trip(gate, LARGE)
    gate.force_open(LARGE.lane)
    gate.reset(LARGE.lane)
    assert states(gate, LARGE, ABROAD, SMALL) == ["closed", "closed", "open"]
    assert isinstance(gate.acquire(ABROAD), Permit)


def test_reset_of_a_lane_leaves_its_endpoint(gate: CircuitGate) -> None:
    """An endpoint's circuit is closed only by resetting all."""
    trip(gate, LARGE, Level.ENDPOINT)
    gate.reset(LARGE.lane)
    after_lane = states(gate, LARGE)
    gate.reset()
    assert (after_lane, states(gate, LARGE)) == (["open"], ["closed"])


def test_reset_of_all_lifts_every_order(gate: CircuitGate) -> None:
    """Nothing is held open afterwards, also where a lane was not used yet."""
    gate.force_open(LARGE.lane)
    gate.force_open(SMALL.lane)
    gate.reset()
    assert [gate.snapshot(LARGE), gate.snapshot(SMALL)] == [CLOSED, CLOSED]


def test_reset_starts_from_nothing(gate: CircuitGate, clock: FakeClock) -> None:
    """Neither the window nor the row of trips nor calls under way survive it."""
    trip(gate, LARGE)
    clock.advance(15.0)
    gate.failure(admitted(gate, LARGE), Level.MODEL)
    gate.reset(LARGE.lane)
    late = [admitted(gate, LARGE) for _ in range(4)]
    gate.failure(admitted(gate, LARGE), Level.MODEL)
    gate.reset(LARGE.lane)
    for permit in late:
        gate.failure(permit, Level.MODEL)
    before = states(gate, LARGE)
    trip(gate, LARGE)
    assert (before, gate.snapshot(LARGE).retry_in) == (["closed"], 15.0)


# Listeners.


def test_listeners_are_told_every_transition(gate: CircuitGate, clock: FakeClock) -> None:
    """Of lanes and of endpoints, in order, with the time to wait."""
    changes: list[CircuitChange] = []
    gate.subscribe(changes.append)
    trip(gate, LARGE)
    clock.advance(15.0)
    for _ in range(2):
        gate.success(admitted(gate, LARGE))
    trip(gate, LARGE, Level.ENDPOINT)
    place = (LARGE.endpoint, LARGE.lane)
    assert changes == [
        CircuitChange(*place, CircuitState.CLOSED, CircuitState.OPEN, 15.0),
        CircuitChange(*place, CircuitState.OPEN, CircuitState.HALF_OPEN, 0.0),
        CircuitChange(*place, CircuitState.HALF_OPEN, CircuitState.CLOSED, 0.0),
        CircuitChange(LARGE.endpoint, None, CircuitState.CLOSED, CircuitState.OPEN, 15.0),
    ]


def test_a_raising_listener_disturbs_nobody(gate: CircuitGate, caplog: pytest.LogCaptureFixture) -> None:
    """The circuit opens, the next listener is told, and the log names the error's class but nothing it says."""
    changes: list[CircuitChange] = []

    def raising(change: CircuitChange) -> None:
        message = "an essay"
        raise LookupError(message)

    gate.subscribe(raising)
    gate.subscribe(changes.append)
    trip(gate, LARGE)
    assert (states(gate, LARGE), len(changes)) == (["open"], 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "LookupError" in caplog.text
    assert "essay" not in caplog.text


def test_an_exit_from_a_listener_is_not_swallowed(gate: CircuitGate) -> None:
    """Only errors are isolated; afterwards the gate tells of changes as before."""
    told: list[CircuitState] = []

    def leaving(change: CircuitChange) -> None:
        told.append(change.new)
        raise KeyboardInterrupt

    gate.subscribe(leaving)
    for key in (LARGE, SMALL):
        with pytest.raises(KeyboardInterrupt):
            trip(gate, key)
    assert told == [CircuitState.OPEN, CircuitState.OPEN]


def test_a_listener_may_use_the_gate(gate: CircuitGate) -> None:
    """It sees the new state, and every listener learns of its own change after the one that caused it."""
    first: list[CircuitState] = []
    second: list[CircuitState] = []

    def resetting(change: CircuitChange) -> None:
        first.append(gate.snapshot(LARGE).state)
        if change.new is CircuitState.OPEN:
            gate.reset(LARGE.lane)

    gate.subscribe(resetting)
    gate.subscribe(lambda change: second.append(change.new))
    trip(gate, LARGE)
    assert (first, second) == ([CircuitState.OPEN, CircuitState.CLOSED], [CircuitState.OPEN, CircuitState.CLOSED])


# Memory and cost.


def keys(count: int) -> list[CircuitKey]:
    return [CircuitKey(f"h{number}.example.com", Lane("vendor", f"m{number}")) for number in range(count)]


def test_idle_circuits_are_forgotten(gate: CircuitGate, clock: FakeClock) -> None:
    """Ten times the bound of lanes, each used once and left, leave no more circuits than the bound."""
    for key in keys(10 * MANY_CIRCUITS):
        gate.success(admitted(gate, key))
        clock.advance(1.0)
    lanes = int(repr(gate).split()[2])
    assert 0 < lanes <= MANY_CIRCUITS
    assert repr(gate) == f"CircuitGate({lanes} endpoints, {lanes} lanes, 0 not closed)"


def test_circuits_that_matter_are_kept(gate: CircuitGate, clock: FakeClock) -> None:
    """What is open, forced or in the middle of a row of failures outlives any number of idle lanes."""
    near = CircuitKey("near.example.com", Lane("vendor", "near"))
    trip(gate, LARGE)
    gate.force_open(SMALL.lane)
    for key in keys(2 * MANY_CIRCUITS):
        gate.ignore(admitted(gate, key))
        if key.endpoint == "h1000.example.com":
            clock.advance(14.0)
            for _ in range(4):
                gate.failure(admitted(gate, near), Level.MODEL)
    gate.failure(admitted(gate, near), Level.MODEL)
    assert states(gate, LARGE, SMALL, near) == ["open", "open", "open"]
    assert gate.snapshot(LARGE).retry_in == 1.0


def test_a_row_of_trips_is_not_forgotten(gate: CircuitGate, clock: FakeClock) -> None:
    """A circuit that has closed but not yet recovered is kept: its next open time doubles."""
    trip(gate, LARGE)
    clock.advance(15.0)
    for _ in range(2):
        gate.success(admitted(gate, LARGE))
    for key in keys(MANY_CIRCUITS):
        admitted(gate, key)
    trip(gate, LARGE)
    assert gate.snapshot(LARGE).retry_in == 30.0


def test_lanes_of_a_kept_endpoint_share_its_circuit(gate: CircuitGate, clock: FakeClock) -> None:
    """An idle endpoint is kept while one of its lanes is, so that a later lane counts for both."""
    for _ in range(5):
        gate.failure(admitted(gate, LARGE), Level.MODEL, retry_after=500.0)
    clock.advance(100.0)
    for key in keys(MANY_CIRCUITS):
        admitted(gate, key)
    trip(gate, SMALL, Level.ENDPOINT)
    gate.reset(LARGE.lane)
    assert gate.acquire(LARGE) == Rejection(CircuitState.OPEN, 15.0)


def test_outcomes_of_forgotten_circuits_have_no_effect(gate: CircuitGate) -> None:
    """A permit whose circuit was forgotten counts nowhere, also not for the circuit made anew in its place."""
    late = [admitted(gate, LARGE) for _ in range(15)]
    for key in keys(MANY_CIRCUITS):
        admitted(gate, key)
    for permit in late[:5]:
        gate.failure(permit, Level.MODEL)
        gate.success(permit)
        gate.ignore(permit)
    admitted(gate, LARGE)
    for permit in late[5:]:
        gate.failure(permit, Level.MODEL)
    assert gate.snapshot(LARGE) == CLOSED


def test_pybreaker_is_imported_by_the_first_trip() -> None:
    """A process without an outage never pays for the import."""
    done = subprocess.run([sys.executable, "-c", FRESH_PROCESS], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[False, True]"


def test_it_may_run_everywhere() -> None:
    """It holds no answer, so every environment allows it; alone it takes the defaults."""
    gate = CircuitGate()
    assert (gate.allowed_in, gate.snapshot(LARGE)) == (EVERYWHERE, CLOSED)
