"""One circuit of the gate, rule by rule: when it trips, how long it stays open, what has no effect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitSnapshot, CircuitState, Level, Permit, Rejection
from llm_gateway._core.jobs import Lane
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.options import BreakerOptions
from llm_gateway.testing.clock import FakeClock

KEY = CircuitKey("api.example.com", Lane("vendor", "large"))
OPTIONS = BreakerOptions()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def gate(clock: FakeClock) -> CircuitGate:
    return gate_with(clock)


def gate_with(clock: FakeClock, options: BreakerOptions = OPTIONS, *, draw: float = 0.5) -> CircuitGate:
    """A gate whose open times are not jittered (a draw of a half) unless asked for."""
    return CircuitGate(options, clock=clock, random=lambda: draw)


def admitted(gate: CircuitGate) -> Permit:
    permit = gate.acquire(KEY)
    assert isinstance(permit, Permit)
    return permit


def rejected(gate: CircuitGate) -> Rejection:
    rejection = gate.acquire(KEY)
    assert isinstance(rejection, Rejection)
    return rejection


def fail(gate: CircuitGate, times: int = 1, *, retry_after: float | None = None) -> None:
    for _ in range(times):
        gate.failure(admitted(gate), Level.MODEL, retry_after=retry_after)


def trip(gate: CircuitGate) -> None:
    fail(gate, OPTIONS.consecutive_failures)


def recover(gate: CircuitGate, clock: FakeClock) -> None:
    """Wait until the open time has passed and let the probes succeed."""
    clock.advance(gate.snapshot(KEY).retry_in)
    for _ in range(OPTIONS.success_threshold):
        gate.success(admitted(gate))


def state(gate: CircuitGate) -> CircuitState:
    return gate.snapshot(KEY).state


# When it trips.


def test_a_new_circuit_is_closed(gate: CircuitGate) -> None:
    """Calls pass, and no probe slot is taken."""
    assert admitted(gate).probe == ""
    assert CircuitSnapshot(state=CircuitState.CLOSED) == gate.snapshot(KEY)


def test_five_failures_in_a_row_trip(gate: CircuitGate) -> None:
    """The fifth failure opens the circuit for the open time."""
    fail(gate, 4)
    before = state(gate)
    fail(gate)
    assert (before, rejected(gate)) == (CircuitState.CLOSED, Rejection(CircuitState.OPEN, OPTIONS.open_time))


def test_half_of_twenty_calls_trip(gate: CircuitGate) -> None:
    """Alternating failures trip at the twentieth call, which no row would."""
    for _ in range(9):
        gate.success(admitted(gate))
        fail(gate)
    gate.success(admitted(gate))
    before = state(gate)
    fail(gate)
    assert (before, state(gate)) == (CircuitState.CLOSED, CircuitState.OPEN)


def test_ignored_outcomes_do_not_hide_an_outage(gate: CircuitGate) -> None:
    """Failures interleaved with the caller's own faults trip as if those had not happened."""
    for _ in range(2):
        fail(gate, 2)
        gate.ignore(admitted(gate))
    fail(gate)
    assert state(gate) == CircuitState.OPEN


def test_ignored_outcomes_never_trip(gate: CircuitGate) -> None:
    """Three hundred cancelled or refused calls leave a healthy circuit closed."""
    for _ in range(300):
        gate.ignore(admitted(gate))
    assert state(gate) == CircuitState.CLOSED


# How long it stays open.


@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 40))
def test_jitter_stays_within_its_bounds_and_the_cap(draw: float, trips: int) -> None:
    """Every open time lies within the jitter round its middle, and never above the cap."""
    clock = FakeClock()
    gate = gate_with(clock, draw=draw)
    trip(gate)
    for _ in range(trips):
        clock.advance(gate.snapshot(KEY).retry_in + 0.001)
        fail(gate)
    middle = min(15.0 * 2**trips, 250.0)
    assert 0.8 * middle - 0.001 <= gate.snapshot(KEY).retry_in <= min(1.2 * middle, 300.0) + 0.001


def test_jitter_spreads_even_the_longest_open_time(clock: FakeClock) -> None:
    """At the cap the draw still matters, so that processes do not come back together."""
    seen: list[float] = []
    for draw in (0.0, 0.5, 1.0):
        gate = gate_with(clock, BreakerOptions(open_time=300.0), draw=draw)
        trip(gate)
        seen.append(round(gate.snapshot(KEY).retry_in, 6))
    assert seen == [200.0, 250.0, 300.0]


def test_the_open_time_doubles_with_each_failed_probe(gate: CircuitGate, clock: FakeClock) -> None:
    """15, 30, 60, 120 seconds, then the cap (less what its jitter may add)."""
    trip(gate)
    seen = [gate.snapshot(KEY).retry_in]
    for _ in range(6):
        clock.advance(gate.snapshot(KEY).retry_in)
        fail(gate)
        seen.append(round(gate.snapshot(KEY).retry_in, 6))
    assert seen == [15.0, 30.0, 60.0, 120.0, 240.0, 250.0, 250.0]


def test_tripping_soon_after_closing_continues_the_row(gate: CircuitGate, clock: FakeClock) -> None:
    """A circuit that closed and trips within a window has not recovered: the open time doubles."""
    trip(gate)
    recover(gate, clock)
    clock.advance(OPTIONS.window - 1.0)
    trip(gate)
    assert gate.snapshot(KEY).retry_in == 30.0


def test_a_window_without_a_trip_ends_the_row(gate: CircuitGate, clock: FakeClock) -> None:
    """A circuit that stayed closed for a window starts again with the first open time."""
    trip(gate)
    recover(gate, clock)
    clock.advance(OPTIONS.window)
    trip(gate)
    assert gate.snapshot(KEY).retry_in == OPTIONS.open_time


def test_a_long_outage_is_no_recovery(gate: CircuitGate, clock: FakeClock) -> None:
    """Time spent open does not count as time spent closed."""
    trip(gate)
    clock.advance(1_000.0)
    fail(gate)
    assert gate.snapshot(KEY).retry_in == 30.0


@pytest.mark.parametrize(("retry_after", "expected"), [(3.0, 15.0), (40.0, 40.0), (99_999_999.0, 86_400.0)])
def test_retry_after_is_a_lower_bound(gate: CircuitGate, retry_after: float, expected: float) -> None:
    """A circuit opens for at least what the provider asked, but for a day at most."""
    fail(gate, 5, retry_after=retry_after)
    assert gate.snapshot(KEY).retry_in == expected


def test_an_earlier_failures_retry_after_counts(gate: CircuitGate, clock: FakeClock) -> None:
    """The hint of any failure of the row bounds the open time, from when it was given."""
    fail(gate, retry_after=100.0)
    clock.advance(10.0)
    fail(gate, 4)
    assert gate.snapshot(KEY).retry_in == 90.0


def test_an_answer_outdates_retry_after(gate: CircuitGate) -> None:
    """Once the provider has answered, what it asked before bounds nothing."""
    fail(gate, retry_after=100.0)
    gate.success(admitted(gate))
    trip(gate)
    assert gate.snapshot(KEY).retry_in == OPTIONS.open_time


def test_a_probes_retry_after_counts(gate: CircuitGate, clock: FakeClock) -> None:
    """A failed probe that was told to wait keeps the circuit open that long."""
    trip(gate)
    clock.advance(15.0)
    fail(gate, retry_after=200.0)
    assert gate.snapshot(KEY).retry_in == 200.0


@pytest.mark.parametrize("jump", [-3_600.0, 3_600.0])
def test_the_wall_clock_is_not_asked(gate: CircuitGate, clock: FakeClock, jump: float) -> None:
    """A stepped wall clock neither prolongs nor shortens the open time."""
    trip(gate)
    clock.jump_wall(jump)
    clock.advance(14.9)
    before = rejected(gate).retry_in
    clock.advance(0.1)
    assert (round(before, 6), admitted(gate).probe != "") == (0.1, True)


# What has no effect.


def test_late_failures_do_not_prolong_the_open_time(gate: CircuitGate, clock: FakeClock) -> None:
    """Calls admitted before the trip that fail after it move nothing."""
    late = [admitted(gate) for _ in range(10)]
    trip(gate)
    clock.advance(5.0)
    for permit in late:
        gate.failure(permit, Level.MODEL, retry_after=500.0)
    assert gate.snapshot(KEY).retry_in == 10.0


def test_late_successes_do_not_close(gate: CircuitGate, clock: FakeClock) -> None:
    """Calls admitted before the trip are no probes, even when they end after the open time."""
    late = [admitted(gate) for _ in range(10)]
    trip(gate)
    clock.advance(15.0)
    gate.success(late.pop())
    while_open = gate.snapshot(KEY)
    admitted(gate)
    for permit in late:
        gate.success(permit)
    assert while_open == CircuitSnapshot(state=CircuitState.OPEN)
    assert gate.snapshot(KEY) == CircuitSnapshot(state=CircuitState.HALF_OPEN, probes=1)


def test_a_slow_probe_does_not_close_what_others_reopened(clock: FakeClock) -> None:
    """Nine of ten probes fail and the tenth succeeds late: the circuit stays open."""
    gate = gate_with(clock, BreakerOptions(max_probes=10, success_threshold=1))
    trip(gate)
    clock.advance(15.0)
    probes = [admitted(gate) for _ in range(10)]
    for probe in probes[:9]:
        gate.failure(probe, Level.MODEL)
    gate.success(probes[9])
    assert gate.snapshot(KEY) == CircuitSnapshot(state=CircuitState.OPEN, retry_in=30.0)


def test_failures_before_the_trip_do_not_count_after_closing(gate: CircuitGate, clock: FakeClock) -> None:
    """A circuit that closes starts with an empty window."""
    fail(gate, 4)
    late = admitted(gate)
    fail(gate)
    recover(gate, clock)
    gate.failure(late, Level.MODEL)
    fail(gate, 4)
    assert state(gate) == CircuitState.CLOSED


def test_late_successes_do_not_end_a_row(gate: CircuitGate, clock: FakeClock) -> None:
    """An answer to a call of an older epoch does not interrupt the failures of this one."""
    late = admitted(gate)
    trip(gate)
    recover(gate, clock)
    fail(gate, 4)
    gate.success(late)
    fail(gate)
    assert state(gate) == CircuitState.OPEN


def test_looking_changes_nothing(gate: CircuitGate, clock: FakeClock) -> None:
    """An open circuit whose time has passed stays open, with nothing left to wait, until a call asks."""
    changes: list[CircuitChange] = []
    gate.subscribe(changes.append)
    trip(gate)
    clock.advance(99.0)
    seen = {gate.snapshot(KEY) for _ in range(3)}
    assert seen == {CircuitSnapshot(state=CircuitState.OPEN)}
    assert [change.new for change in changes] == [CircuitState.OPEN]
