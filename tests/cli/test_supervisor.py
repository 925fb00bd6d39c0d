"""``llm-gateway worker --processes``: several processes that are kept running, killed, and stopped."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.cli.stage import Running, Stage

from llm_gateway.cli.supervisor import Supervisor
from llm_gateway.testing import Faults

SHORT_LEASE = {"LLM_GATEWAY_WORKER__LEASE_SECONDS": "3"}
COUNTED = "import sys; open(sys.argv[1], 'a').write('x'); sys.exit(int(sys.argv[2]))"


async def at_work(worker: Running, count: int) -> list[int]:
    """Return the process ids of the workers once that many have said that they drain."""
    return [int((await worker.line(" drains ")).split()[2]) for _ in range(count)]


async def test_two_processes_share_the_work(stage: Stage) -> None:
    """Two processes answer 30 requests with exactly 30 calls, and end when nothing is left."""
    tickets = await stage.submitted(30)
    done = await stage.ran("worker", "--processes", "2", "--until-empty")
    assert (0, 30) == (done.code, stage.sim.call_count)
    assert {"completed"} == set(await stage.states(tickets))
    assert 2 == done.err.count("Nothing is left to do")


async def test_killed_process_loses_nothing(stage: Stage) -> None:
    """Of two processes one is killed at work: another starts in its place and every request is answered."""
    tickets = await stage.submitted(20)
    stage.sim.outage(Faults.HANG)
    async with stage.having(**SHORT_LEASE).running("worker", "--processes", "2", "--until-empty") as worker:
        victim, _ = await at_work(worker, 2)
        await stage.sim.wait_for_calls(16)
        os.kill(victim, signal.SIGKILL)
        await worker.line("ended with -9; another starts")
        stage.sim.recover()
        stage.sim.release()
        code, _ = await worker.ended()
    assert 0 == code
    assert {"completed"} == set(await stage.states(tickets))
    listed = (await stage.ran("queue", "list", "--json")).rows("tickets")
    assert 8 == len([ticket for ticket in listed if ticket["crashes"] == 1])
    assert 28 == stage.sim.call_count


async def test_signal_is_passed_on(stage: Stage) -> None:
    """SIGTERM to the supervisor drains every process, and all exit with 0."""
    await stage.submitted(2)
    stage.sim.outage(Faults.HANG)
    async with stage.running("worker", "--processes", "2", "--concurrency", "1") as worker:
        await at_work(worker, 2)
        await stage.sim.wait_for_calls(2)
        worker.process.send_signal(signal.SIGTERM)
        for _ in range(2):
            await worker.line("claims nothing more")
        stage.sim.release()
        code, log = await worker.ended()
    assert (0, 2) == (code, stage.sim.call_count)
    assert "another starts" not in log


async def test_second_signal_is_passed_on(stage: Stage) -> None:
    """A second SIGTERM makes every process hand its requests back at once."""
    tickets = await stage.submitted(2)
    stage.sim.outage(Faults.HANG)
    command = ("worker", "--processes", "2", "--concurrency", "1", "--drain-timeout", "3600")
    async with stage.running(*command) as worker:
        await stage.sim.wait_for_calls(2)
        worker.process.send_signal(signal.SIGTERM)
        for _ in range(2):
            await worker.line("claims nothing more")
        worker.process.send_signal(signal.SIGTERM)
        code, _ = await worker.ended()
    assert 0 == code
    assert ["queued", "queued"] == await stage.states(tickets)


async def test_interrupt_of_the_terminal_is_one_signal(stage: Stage) -> None:
    """A Ctrl-C, which goes to the whole group of processes, is one signal to each worker and not two."""
    tickets = await stage.submitted(2)
    stage.sim.outage(Faults.HANG)
    async with stage.running("worker", "--processes", "2", "--concurrency", "1") as worker:
        await stage.sim.wait_for_calls(2)
        os.killpg(worker.process.pid, signal.SIGINT)
        for _ in range(2):
            await worker.line("claims nothing more")
        stage.sim.release()
        code, _ = await worker.ended()
    assert 0 == code
    assert ["completed", "completed"] == await stage.states(tickets)


async def test_orphans_stop(stage: Stage) -> None:
    """When the supervisor itself is killed its processes drain and end: nobody works unsupervised."""
    async with stage.running("worker", "--processes", "2") as worker:
        await at_work(worker, 2)
        worker.process.send_signal(signal.SIGKILL)
        # The log ends when the last process that writes to it has ended.
        log = await worker.rest()
    assert 2 == log.count("claims nothing more")


async def test_cannot_start(stage: Stage) -> None:
    """What is set up wrongly is told once, on one line, however many processes were asked for: the exit code is 2."""
    done = await stage.having(ENVIRONMENT="production").ran("worker", "--processes", "2")
    assert (2, 1) == (done.code, len(done.err.splitlines()))
    stage.file.write_bytes(b"this is no database, and long enough to be looked at as one" * 20)
    done = await stage.ran("worker", "--processes", "2")
    assert (2, 1) == (done.code, len(done.err.splitlines()))


async def test_gives_up(tmp_path: Path) -> None:
    """A process that ends at once is started five times, with longer pauses, before the supervisor gives up with 1."""
    tally = tmp_path / "tally"
    command = (sys.executable, "-c", COUNTED, str(tally), "7")
    assert 1 == await Supervisor(command, 1, ends=True, first_pause=0.01).run()
    assert "xxxxx" == tally.read_text()


async def test_ended_well_is_not_restarted(tmp_path: Path) -> None:
    """With --until-empty a process that ends with 0 has done its work."""
    tally = tmp_path / "tally"
    command = (sys.executable, "-c", COUNTED, str(tally), "0")
    assert 0 == await Supervisor(command, 2, ends=True, first_pause=0.01).run()
    assert "xx" == tally.read_text()
