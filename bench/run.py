"""Measures llm_gateway against its peers and prints one report.

Every figure is the median of several rounds with the lowest and the highest in brackets; the peers take turns, each
in a process and an environment of its own. CPU is the client process's own; where there are two cores the server has
the other one. Nothing here passes or fails: a target that is missed is printed as missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from statistics import median
from typing import Final

__all__ = ["Peer", "Plan", "main"]

HERE: Final = Path(__file__).parent
VENVS: Final = HERE.parent / ".bench"
OURS: Final = "llm_gateway"
RAW: Final = "raw httpx-aiohttp"
SDK: Final = "openai SDK"
POLICIES: Final = "policies - bare"
BARE: Final = "bare Python"
SCRIPT: Final = "httpx-aiohttp + pydantic"
LOW: Final = 1
HIGH: Final = 64
# By how much these move without anything being kept: a hundred bytes a call would be 2 MiB.
NOISE: Final = 2.0
STRAYS: Final = 500
IMPORTS: Final = {
    BARE: "",
    OURS: "import llm_gateway",
    "llm_gateway.LLMClient": "from llm_gateway import LLMClient",
}
QUIET: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to ask: a script below ``peers``, what its own environment holds (none: ours), and its share of calls."""

    script: str
    needs: tuple[str, ...] = ()
    share: float = 1.0
    extra: tuple[str, ...] = ()


PEERS: Final = {
    "raw httpx": Peer("raw_httpx.py"),
    RAW: Peer("raw_httpx_aiohttp.py"),
    SDK: Peer("openai_sdk.py", ("openai", "sniffio"), 0.5),
    "litellm": Peer("litellm_sdk.py", ("litellm", "sniffio"), 0.25),
    OURS: Peer("ours.py"),
    "llm_gateway, memory queue": Peer("ours.py", extra=("development",)),
}
STARTERS: Final = {SCRIPT: Peer("raw_pydantic.py")} | PEERS


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    calls: int
    starts: int
    growth: int
    peers: bool


FULL: Final = Plan(rounds=5, calls=3000, starts=15, growth=20_000, peers=True)
QUICK: Final = Plan(rounds=3, calls=400, starts=3, growth=2000, peers=False)


@dataclass(frozen=True, slots=True)
class Target:
    """What was aimed at, and what came out."""

    what: str
    limit: float
    measured: float
    unit: str


@dataclass(slots=True)
class Figures:
    """What was measured under each name, round by round."""

    of: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def add(self, name: str, value: float) -> None:
        """Note one round."""
        self.of.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Return the middle of all rounds; not a number when there was none."""
        return median(self.of.get(name) or [float("nan")])

    def shown(self, name: str, digits: int = 0) -> str:
        """Write median, lowest and highest."""
        values = self.of.get(name)
        if not values:
            return "-"
        low, high = min(values), max(values)
        return f"{median(values):,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


async def ran(*command: str | Path) -> str:
    """Run a program on our core and return what it prints.

    Raises:
        RuntimeError: it failed; the message is the end of what it complained about.
    """
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **QUIET},
        start_new_session=True,
    )
    try:
        out, complaint = await process.communicate()
    finally:
        # Whoever gives up waiting leaves nothing running, nor what that has started.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if process.returncode:
        message = f"{Path(command[1]).name}: {complaint.decode(errors='replace').strip()[-400:]}"
        raise RuntimeError(message)
    return out.decode()


@asynccontextmanager
async def served() -> AsyncGenerator[str]:
    """Run the server, on the other core where there is one, and give its URL."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    pinned = [str(cores[-1])] if len(cores) > 1 else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "server.py", *pinned, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        if pinned:
            os.sched_setaffinity(0, {cores[0]})
        port = (await process.stdout.readline()).decode().strip() if process.stdout else ""
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        await process.wait()


def interpreter(peer: Peer) -> Path:
    """Return the Python that runs *peer*."""
    return VENVS / f"venv-{peer.needs[0]}" / "bin" / "python" if peer.needs else Path(sys.executable)


async def set_up(peers: Iterable[Peer]) -> None:
    """Make the environments that are missing.

    Raises:
        RuntimeError: a package could not be installed.
    """
    for peer in peers:
        python = interpreter(peer)
        if not peer.needs or (python.parent / ".complete").exists():
            continue
        print(f"setting up {python.parent.parent.name} ...", flush=True)
        await ran(sys.executable, "-m", "venv", python.parent.parent)
        await ran(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.needs)
        (python.parent / ".complete").touch()


def in_turn(names: Iterable[str], rounds: int) -> Iterable[str]:
    """Name everyone in each round, each round beginning with the next."""
    order = list(names)
    for turn in range(rounds):
        yield from order[turn % len(order) :] + order[: turn % len(order)]


async def measure_calls(peers: dict[str, Peer], plan: Plan, url: str) -> tuple[dict[int, Figures], dict[int, Figures]]:
    """Measure CPU per call and calls per second at both concurrencies."""
    cpu, rate = {LOW: Figures(), HIGH: Figures()}, {LOW: Figures(), HIGH: Figures()}
    versions: dict[str, str] = {}
    for name in in_turn(peers, plan.rounds):
        peer = peers[name]
        for concurrency in (LOW, HIGH):
            calls = str(int(plan.calls * peer.share))
            script = HERE / "peers" / peer.script
            result = json.loads(await ran(interpreter(peer), script, url, str(concurrency), calls, *peer.extra))
            cpu[concurrency].add(name, result["cpu_us"])
            rate[concurrency].add(name, result["per_second"])
            versions[name] = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    print("\nVersions: " + "; ".join(f"{name}: {found}" for name, found in versions.items()))
    return cpu, rate


async def measure_starts(peers: dict[str, Peer], plan: Plan, url: str) -> tuple[Figures, Figures]:
    """Measure milliseconds from starting the process to its first answer: by the clock, and of CPU."""
    wall, cpu = Figures(), Figures()
    for name in in_turn(peers, plan.starts):
        peer = peers[name]
        began = time.monotonic()
        result = json.loads(await ran(interpreter(peer), HERE / "peers" / peer.script, url, str(LOW), "0", *peer.extra))
        wall.add(name, (result["first_answer_at"] - began) * 1e3)
        cpu.add(name, result["first_answer_cpu"] * 1e3)
    return wall, cpu


async def measure_imports(plan: Plan) -> tuple[Figures, Figures]:
    """Measure milliseconds of a Python that imports something and does no more: by the clock, and of CPU."""
    wall, cpu = Figures(), Figures()
    for name in in_turn(IMPORTS, plan.starts):
        code = f"{IMPORTS[name]}\nimport time; print(time.monotonic(), time.process_time())"
        began = time.monotonic()
        ended, spent = map(float, (await ran(sys.executable, "-c", code)).split())
        wall.add(name, (ended - began) * 1e3)
        cpu.add(name, spent * 1e3)
    return wall, cpu


async def measure_policies(plan: Plan) -> Figures:
    """Measure what is spent around a provider that answers at once."""
    figures = Figures(json.loads(await ran(sys.executable, HERE / "policy.py", str(plan.rounds + 4), str(plan.calls))))
    for bare, spent in zip(figures.of["bare"], figures.of["policies"], strict=True):
        figures.add(POLICIES, spent - bare)
    return figures


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows under their heads."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    print()
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


async def calls(plan: Plan, url: str) -> list[Target]:
    """Measure and print the calls."""
    peers = {name: peer for name, peer in PEERS.items() if plan.peers or not peer.needs}
    cpu, rate = await measure_calls(peers, plan, url)
    low, high = cpu[LOW], cpu[HIGH]
    rows = [
        (
            name,
            low.shown(name),
            high.shown(name),
            f"{high.median(name) / low.median(name):.2f}",
            f"{low.median(name) / low.median(RAW):.2f}",
            f"{high.median(name) / high.median(RAW):.2f}",
            f"{rate[LOW].median(name):,.0f}",
            f"{rate[HIGH].median(name):,.0f}",
        )
        for name in peers
    ]
    table(("CPU per call, us", "c=1", "c=64", "c=64/c=1", "x raw, c=1", "x raw, c=64", "calls/s c=1", "c=64"), rows)
    spent = low.median(OURS)
    return [
        Target(f"CPU per call, c=1, over {RAW}", 1.3, spent / low.median(RAW), " x"),
        Target(f"CPU per call, c=1, over {SDK}", 0.4, spent / low.median(SDK), " x"),
        Target("CPU per call, c=64 over c=1", 1.15, high.median(OURS) / spent, " x"),
    ]


async def starts(plan: Plan, url: str) -> list[Target]:
    """Measure and print how a process begins."""
    peers = {name: peer for name, peer in STARTERS.items() if plan.peers or not peer.needs}
    wall, cpu = await measure_starts(peers, plan, url)
    base = wall.median(SCRIPT)
    rows = [(name, wall.shown(name), cpu.shown(name), f"{wall.median(name) / base:.2f}") for name in peers]
    table(("process start to first answer, ms", "clock", "CPU", f"x {SCRIPT}"), rows)
    imported, spent = await measure_imports(plan)
    told = [(name, imported.shown(name, 1), spent.shown(name, 1)) for name in IMPORTS]
    table(("import, ms", "clock", "CPU"), told)
    return [
        Target(f"first answer over {SCRIPT}", 1.3, wall.median(OURS) / base, " x"),
        Target("import llm_gateway over bare Python", 20.0, imported.median(OURS) - imported.median(BARE), " ms"),
    ]


async def policies(plan: Plan) -> list[Target]:
    """Measure and print what the policies cost."""
    figures = await measure_policies(plan)
    table(("without I/O, CPU us per call", ""), [(name, figures.shown(name, 1)) for name in figures.of])
    return [Target("breaker, retry, freshness and receipt", 40.0, figures.median(POLICIES), " us")]


async def growth(plan: Plan, url: str) -> list[Target]:
    """Measure and print what calls leave behind in memory."""
    found: list[list[float]] = json.loads(await ran(sys.executable, HERE / "growth.py", url, str(plan.growth)))
    sizes, objects = found
    head = ("growth", "opened", f"after {plan.growth:,} calls", f"after {plan.growth:,} more")
    rows = [("resident set, MiB", *(f"{size:.1f}" for size in sizes))]
    rows += [("objects", *(f"{number:,.0f}" for number in objects))]
    table(head, rows)
    return [
        Target(f"growth over {plan.growth:,} calls, once warm", NOISE, sizes[-1] - sizes[-2], " MiB"),
        Target(f"objects kept over {plan.growth:,} calls", STRAYS, objects[-1] - objects[-2], ""),
    ]


def judge(targets: Iterable[Target]) -> None:
    """Print each target beside what was measured; a peer that is not there takes its targets with it."""
    rows = [
        (
            target.what,
            f"{target.limit:g}{target.unit}",
            f"{target.measured:.2f}{target.unit}",
            "met" if target.measured <= target.limit else "NOT MET",
        )
        for target in targets
        if not isnan(target.measured)
    ]
    table(("target", "at most", "measured", ""), rows)


async def measure(plan: Plan) -> None:
    """Measure and print everything."""
    if plan.peers:
        await set_up(PEERS.values())
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores")
    print(f"{plan.rounds} rounds of {plan.calls} calls; median (lowest-highest)")
    async with served() as url:
        targets = await policies(plan) + await calls(plan, url) + await starts(plan, url) + await growth(plan, url)
    judge(targets)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="a minute's worth, without the peers that need installing")
    arguments = parser.parse_args()
    try:
        asyncio.run(measure(QUICK if arguments.quick else FULL))
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
