"""Who may probe a half-open circuit, and calls in tasks: crowds, failures, cancellation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import anyio
import pytest

from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitSnapshot, CircuitState, Level, Permit, Rejection
from llm_gateway._core.jobs import Lane
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.options import BreakerOptions
from llm_gateway.testing.clock import FakeClock

KEY = CircuitKey("api.example.com", Lane("vendor", "large"))
OPTIONS = BreakerOptions()


class ProviderDownError(Exception):
    """An outage."""


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


def state(gate: CircuitGate) -> CircuitState:
    return gate.snapshot(KEY).state


async def guarded(gate: CircuitGate, work: Callable[[], Awaitable[None]]) -> None:
    """Call *work* as the engine does: cancellation is given back as ignored, an outage as a failure."""
    permit = gate.acquire(KEY)
    if isinstance(permit, Rejection):
        return
    try:
        await work()
    except ProviderDownError:
        gate.failure(permit, Level.MODEL)
        raise
    except BaseException:
        gate.ignore(permit)
        raise
    gate.success(permit)


async def crowd(gate: CircuitGate, outcome: str, size: int = 500) -> int:
    """Let *size* tasks ask while none has an answer; return how many were admitted before all ended alike."""
    everyone_asked, started, asked = anyio.Event(), count(), count(1)

    async def work() -> None:
        next(started)
        await everyone_asked.wait()
        if outcome == "failure":
            raise ProviderDownError

    async def one() -> None:
        call = guarded(gate, work)
        if next(asked) == size:
            everyone_asked.set()
        try:
            await call
        except ProviderDownError:
            return

    async with anyio.create_task_group() as tasks:
        for _ in range(size):
            tasks.start_soon(one)
    return next(started)


async def test_the_tripping_call_raises_its_own_error(gate: CircuitGate) -> None:
    """The breaker never replaces the provider's error by one of its own."""

    async def work() -> None:
        raise ProviderDownError

    fail(gate, 4)
    with pytest.raises(ProviderDownError) as caught:
        await guarded(gate, work)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert state(gate) == CircuitState.OPEN


@pytest.mark.parametrize("probes", [1, 3, 5])
@pytest.mark.parametrize(("outcome", "expected"), [("success", CircuitState.CLOSED), ("failure", CircuitState.OPEN)])
async def test_a_crowd_at_reset_time_gets_exactly_the_probe_slots(
    clock: FakeClock, probes: int, outcome: str, expected: CircuitState
) -> None:
    """Of 500 tasks exactly as many are admitted as there are slots, and the circuit changes state once for all."""
    gate = gate_with(clock, BreakerOptions(max_probes=probes, success_threshold=probes))
    trip(gate)
    clock.advance(15.0)
    changes: list[CircuitChange] = []
    gate.subscribe(changes.append)
    assert probes == await crowd(gate, outcome)
    assert [CircuitState.HALF_OPEN, expected] == [change.new for change in changes]


async def test_waves_of_a_crowd(gate: CircuitGate, clock: FakeClock) -> None:
    """One slot, two successes needed: 500 tasks, four times, are admitted 1, 1, 500 and 500."""
    trip(gate)
    clock.advance(15.0)
    waves = [await crowd(gate, "success") for _ in range(4)]
    assert waves == [1, 1, 500, 500]


async def test_after_a_failed_probe_nobody_passes(gate: CircuitGate, clock: FakeClock) -> None:
    """One slot, the probe fails: the next crowd is refused whole."""
    trip(gate)
    clock.advance(15.0)
    waves = [await crowd(gate, "failure") for _ in range(2)]
    assert waves == [1, 0]


def test_a_busy_probe_slot_refuses(gate: CircuitGate, clock: FakeClock) -> None:
    """Who finds all slots taken is told so, and to ask again after the open time."""
    trip(gate)
    clock.advance(15.0)
    admitted(gate)
    assert rejected(gate) == Rejection(CircuitState.HALF_OPEN, OPTIONS.open_time, probes_busy=True)
    assert gate.snapshot(KEY) == CircuitSnapshot(state=CircuitState.HALF_OPEN, probes=1)


def test_a_successful_probe_frees_its_slot_and_enough_of_them_close(gate: CircuitGate, clock: FakeClock) -> None:
    """The circuit closes with the second success in a row."""
    trip(gate)
    clock.advance(15.0)
    gate.success(admitted(gate))
    after_one = gate.snapshot(KEY)
    gate.success(admitted(gate))
    assert (after_one, state(gate)) == (CircuitSnapshot(state=CircuitState.HALF_OPEN), CircuitState.CLOSED)


def test_a_success_does_not_outlive_a_failed_probe(gate: CircuitGate, clock: FakeClock) -> None:
    """Successes are counted anew each time the circuit begins to probe."""
    trip(gate)
    clock.advance(15.0)
    gate.success(admitted(gate))
    fail(gate)
    clock.advance(30.0)
    gate.success(admitted(gate))
    assert state(gate) == CircuitState.HALF_OPEN


def test_an_ignored_probe_counts_nothing_and_frees_its_slot(gate: CircuitGate, clock: FakeClock) -> None:
    """A probe that ends in the caller's own fault neither closes nor opens the circuit."""
    trip(gate)
    clock.advance(15.0)
    for _ in range(10):
        gate.ignore(admitted(gate))
    assert gate.snapshot(KEY) == CircuitSnapshot(state=CircuitState.HALF_OPEN)


async def test_a_cancelled_probe_ends_as_cancelled(gate: CircuitGate, clock: FakeClock) -> None:
    """A deadline round a probe works as ever, its slot comes back, and nothing is counted."""
    trip(gate)
    clock.advance(15.0)
    with anyio.move_on_after(0.0) as scope:
        await guarded(gate, anyio.sleep_forever)
    assert (scope.cancelled_caught, gate.snapshot(KEY)) == (True, CircuitSnapshot(state=CircuitState.HALF_OPEN))


async def test_cancelled_calls_never_trip(gate: CircuitGate) -> None:
    """Cancellation at the edge of tripping is still a cancellation, and the circuit stays closed."""
    fail(gate, 4)
    with pytest.raises(TimeoutError), anyio.fail_after(0.0):
        await guarded(gate, partial(anyio.sleep, 60.0))
    assert state(gate) == CircuitState.CLOSED


def test_a_lost_probe_frees_its_slot_when_its_lease_ends(gate: CircuitGate, clock: FakeClock) -> None:
    """A permit that is not given back blocks nobody for longer than the lease."""
    trip(gate)
    clock.advance(15.0)
    admitted(gate)
    clock.advance(OPTIONS.probe_lease - 1.0)
    left = rejected(gate).retry_in
    clock.advance(1.0)
    assert (left, gate.snapshot(KEY).probes, admitted(gate).probe) == (1.0, 0, "2")


@pytest.mark.parametrize("refilled", [True, False])
def test_a_probe_is_void_after_its_lease(gate: CircuitGate, clock: FakeClock, *, refilled: bool) -> None:
    """Its late outcome has no effect, whether or not another probe has taken the slot."""
    trip(gate)
    clock.advance(15.0)
    lost = admitted(gate)
    clock.advance(OPTIONS.probe_lease)
    if refilled:
        admitted(gate)
    before = gate.snapshot(KEY)
    gate.failure(lost, Level.MODEL)
    assert before == gate.snapshot(KEY)


def test_a_probe_given_back_twice_counts_once(gate: CircuitGate, clock: FakeClock) -> None:
    """The second return of a permit finds no slot and has no effect."""
    trip(gate)
    clock.advance(15.0)
    probe = admitted(gate)
    gate.success(probe)
    gate.success(probe)
    assert state(gate) == CircuitState.HALF_OPEN
