"""The fake clock moves only when told."""

from __future__ import annotations

from datetime import timedelta

import anyio
import pytest

from llm_gateway.testing.clock import START, FakeClock, settle


async def test_time_stands_still() -> None:
    """Without being advanced the clock tells the same time, and waiting for nothing returns at once."""
    clock = FakeClock()
    await clock.sleep(0)
    assert (clock.monotonic(), clock.now()) == (0.0, START)


async def test_sleepers_wake_when_their_time_has_come() -> None:
    """A sleeper wakes when the clock has been advanced by what it asked for, and not before."""
    clock = FakeClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with anyio.create_task_group() as tasks:
        for seconds in (3.0, 1.0, 2.0):
            tasks.start_soon(sleep, seconds)
        await settle()
        assert clock.sleepers == 3
        clock.advance(1.999999)
        await settle()
        assert woken == [1.0]
        clock.advance(0.000001)
        await settle()
        assert woken == [1.0, 2.0]
        clock.advance(10)
    assert (woken, clock.sleepers) == ([1.0, 2.0, 3.0], 0)


async def test_run_for_lets_each_woken_task_run() -> None:
    """Running for a while wakes a task that sleeps again and again, at each of its hours."""
    clock = FakeClock()
    ticks: list[float] = []

    async def tick() -> None:
        for _ in range(4):
            await clock.sleep(2)
            ticks.append(clock.monotonic())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await clock.run_for(7)
        assert (ticks, clock.monotonic()) == ([2.0, 4.0, 6.0], 7.0)
        await clock.run_for(1)
    assert ticks == [2.0, 4.0, 6.0, 8.0]


async def test_wall_clock_jumps_alone() -> None:
    """A jump of the wall clock moves neither monotonic time nor sleepers."""
    clock = FakeClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 5)
        await settle()
        clock.jump_wall(-3600)
        await settle()
        assert (clock.now(), clock.monotonic(), clock.sleepers) == (START - timedelta(hours=1), 0.0, 1)
        clock.advance(5)
    assert clock.now() == START + timedelta(seconds=5 - 3600)


async def test_cancelled_sleeper_is_forgotten() -> None:
    """A sleeper that is cancelled leaves nothing behind."""
    clock = FakeClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 5)
        await settle()
        tasks.cancel_scope.cancel()
    assert clock.sleepers == 0


async def test_exact_to_the_microsecond() -> None:
    """Ten steps of a tenth of a second are one second."""
    clock = FakeClock()
    for _ in range(10):
        clock.advance(0.1)
    assert clock.monotonic() == 1.0
    assert repr(clock) == "<FakeClock 2030-01-01T12:00:01+00:00 sleepers=0>"


def test_time_does_not_go_back() -> None:
    """Monotonic time stays where it is when told to go back."""
    clock = FakeClock()
    clock.advance(5)
    clock.advance(-3)
    assert clock.monotonic() == pytest.approx(5.0)
