"""Changes the scripts of the queue in Redis one point at a time, and tells which changes no test notices.

``make mutants`` runs every mutant; ``make mutants ARGS="--sample 100 --seed 7"`` some of them, ``ARGS="claim sweep"``
those of some scripts. What was found is kept in .mutants, so that a run that was broken off goes on with ``--resume``,
which tries survivors again: on a busy machine the shortest way is ``ARGS=--quick``, then ``ARGS=--resume``. Exits with
1 if fewer than 95 of 100 mutants are noticed, not counting those of equivalent.toml.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Final

from tests.mutants.rules import Mutant, mutants_of
from tests.mutants.trial import ROOT, SCRIPTS, STAGES, Outcome, Trial
from tests.queues.redis_server import BINARIES

__all__ = ["main"]

RESULTS: Final = ROOT / ".mutants" / "results.jsonl"
EQUIVALENT: Final = Path(__file__).with_name("equivalent.toml")
NEEDED: Final = 95.0
MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for.

    Attributes:
        sample: How many mutants, drawn by ``seed``; None for all.
        seed: Of the draw.
        minutes: After which no further mutant is begun; None for no end.
        processes: How many run at once.
        resume: Whether mutants that an earlier run saw noticed are left out.
        quick: Whether the first, quick tests are run alone.
        scripts: Which scripts alone, by the beginning of their names; empty for all.
    """

    sample: int | None
    seed: int
    minutes: float | None
    processes: int
    resume: bool
    quick: bool
    scripts: tuple[str, ...]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def key_of(mutant: Mutant) -> str:
    """Name a mutant by its whole text, so that a result holds until the script changes."""
    return sha256(f"{mutant.file}\0{mutant.text}".encode()).hexdigest()


def chosen(plan: Plan) -> list[Mutant]:
    """Make the mutants that are to be tried: in a mixed order, so that a broken-off run is a sample."""
    known: dict[str, dict[str, str]] = tomllib.loads(EQUIVALENT.read_text("utf-8"))
    scripts = sorted(path for path in SCRIPTS.glob("*.lua") if path.name.startswith(plan.scripts or ("",)))
    every = [mutant for path in scripts for mutant in mutants_of(path.name, path.read_text("utf-8"))]
    stale = {(name, line) for name, lines in known.items() for line in lines} - {
        (mutant.file.removesuffix(".lua"), mutant.name) for mutant in every
    }
    for name, line in sorted(stale) if not plan.scripts else ():
        say(f"equivalent.toml names a mutant that is gone: {name}: {line}")
    judged = [mutant for mutant in every if mutant.name not in known.get(mutant.file.removesuffix(".lua"), {})]
    say(f"{len(every)} mutants, {len(every) - len(judged)} of them equivalent")
    random.Random(plan.seed).shuffle(judged)
    return judged if plan.sample is None else judged[: plan.sample]


def earlier() -> dict[str, Outcome]:
    """Read what earlier runs found."""
    if not RESULTS.exists():
        return {}
    found: list[dict[str, str]] = [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()]
    return {result["key"]: Outcome(result["outcome"]) for result in found}


def tried(plan: Plan, mutants: Sequence[Mutant]) -> dict[Mutant, Outcome]:
    """Run the tests against each mutant until time is up, and return what was found."""
    known = earlier() if plan.resume else {}
    RESULTS.parent.mkdir(exist_ok=True)
    if not plan.resume:
        RESULTS.write_text("", "utf-8")
    noticed = {
        mutant: outcome for mutant in mutants if (outcome := known.get(key_of(mutant), Outcome.SURVIVED)) != "survived"
    }
    waiting = [mutant for mutant in mutants if mutant not in noticed]
    until = time.monotonic() + plan.minutes * MINUTE if plan.minutes is not None else float("inf")
    free: SimpleQueue[Trial] = SimpleQueue()

    def one(mutant: Mutant) -> Outcome | None:
        if time.monotonic() > until:
            return None
        trial = free.get()
        try:
            outcome = trial.judge(mutant)
        finally:
            free.put(trial)
        with RESULTS.open("a", encoding="utf-8") as results:
            results.write(json.dumps({"key": key_of(mutant), "outcome": outcome}) + "\n")
        say(f"{outcome.value:8} {mutant.file}:{mutant.line}: {mutant.change}")
        return outcome

    with TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(plan.processes) as pool:
        trials = [
            Trial(Path(folder) / str(number), 1 if plan.quick else len(STAGES)) for number in range(plan.processes)
        ]
        try:
            limits = trials[0].calibrate()
            for trial in trials:
                trial.limits = limits
                free.put(trial)
            found = dict(zip(waiting, pool.map(one, waiting), strict=True))
        finally:
            for trial in trials:
                trial.dismiss()
    return noticed | {mutant: outcome for mutant, outcome in found.items() if outcome is not None}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the score and every survivor, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many mutants, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="begin no mutant after so many minutes")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="leave out what an earlier run saw noticed")
    parser.add_argument("--quick", action="store_true", help="run the quick tests alone")
    parser.add_argument("scripts", nargs="*", help="these scripts alone, by the beginning of their names")
    asked = parser.parse_args(arguments)
    plan = Plan(
        asked.sample, asked.seed, asked.minutes, asked.processes, asked.resume, asked.quick, tuple(asked.scripts)
    )
    if not BINARIES:
        say("There is no Redis server on this machine: install one, or run make install on Linux.")
        return 1
    mutants = chosen(plan)
    found = tried(plan, mutants)
    survivors = [mutant for mutant, outcome in found.items() if outcome is Outcome.SURVIVED]
    killed = len(found) - len(survivors)
    score = 100.0 * killed / len(found) if found else 100.0
    for mutant in sorted(survivors, key=lambda mutant: (mutant.file, mutant.line, mutant.column)):
        say(f"\n{mutant.file}:{mutant.line}: {mutant.change}\n    {mutant.name}")
    missing = len(mutants) - len(found)
    say(f"\nkilled {killed}, survived {len(survivors)}, not run {missing}: {score:.1f} % (needed {NEEDED:.0f} %)")
    return 0 if score >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
