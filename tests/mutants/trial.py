"""Runs the tests of the queue in Redis against a copy of the package in which one script is changed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.mutants.rules import Mutant
from tests.queues.redis_server import BINARIES, NEWEST

__all__ = ["ROOT", "SCRIPTS", "STAGES", "Outcome", "Trial"]

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "src" / "llm_gateway"
SCRIPTS: Final = PACKAGE / "queues" / "redis" / "scripts"
# A run may take so many times what the unchanged scripts take, and a little: both cores may be busy.
PATIENCE: Final = 4.0
GRACE: Final = 20.0
# Other servers than the newest run the same scripts.
OTHERS: Final = tuple(Path(binary).parents[1].name for binary in BINARIES if binary != NEWEST)


class Outcome(StrEnum):
    """How a mutant fared. A run that hangs has noticed it too."""

    KILLED = "killed"
    HUNG = "hung"
    SURVIVED = "survived"


# By what tests.mutants.quick tells: an exit code of pytest, or that there was none in time.
OUTCOMES: Final = {"0": Outcome.SURVIVED, "1": Outcome.KILLED, "hung": Outcome.HUNG}


@dataclass(frozen=True, slots=True)
class Stage:
    """Some of the tests: files or tests, and which of them."""

    tests: tuple[str, ...]
    which: str


# These wait for a server, or run no script that others do not.
SLOW: Final = "test_events_past_a_gap or replica or of_a_full_queue or test_full_server"
UNRELATED: Final = "test_two_lost_replies or test_pin_whose or test_dropped_key or refused or url"
OWN: Final = (
    *("test_redis_scripts.py", "test_redis_damage.py", "test_redis_growth.py"),
    *("test_redis_lost_replies.py", "test_redis_own.py"),
)
STAGES: Final = (
    Stage(("test_redis.py::TestRedisQueue", *OWN), f"not ({SLOW} or {UNRELATED})"),
    Stage(
        ("test_redis_replica.py", "test_redis_own.py", "test_redis.py::TestRedisQueue"),
        f"({SLOW}) and not ({UNRELATED})",
    ),
    Stage(("test_redis_model.py", "test_redis.py::TestShards"), f"not ({SLOW})"),
)


class Crew:
    """A process that has collected the tests of a stage, and runs them as often as it is asked to.

    Args:
        stage: Which tests.
        folder: Where what they write lies.
        environment: Of the process.
    """

    def __init__(self, stage: Stage, folder: Path, environment: dict[str, str]) -> None:
        tests = [f"tests/queues/{name}" for name in stage.tests]
        which = " and ".join([f"({stage.which})", *(f"not {other}" for other in OTHERS)])
        quiet = ("-q", "-x", "-s", "--tb=line", "-p", "no:cacheprovider", "-p", "tests.mutants.quick")
        place = ("--hypothesis-seed=0", f"--basetemp={folder / 'tests'}")
        asked = [sys.executable, "-m", "pytest", *quiet, *place, "-k", which, *tests]
        folder.mkdir(parents=True)
        self.log = folder / "said"
        self.wire, theirs = socket.socketpair()
        with theirs, self.log.open("wb") as said:
            self.process = subprocess.Popen(
                asked, env=environment, cwd=ROOT, stdin=theirs.fileno(), stdout=said, stderr=said
            )
        self.outcomes = self.wire.makefile("r", encoding="ascii")

    def run(self, limit: float) -> Outcome:
        """Run the tests once, for so many seconds at most.

        Raises:
            RuntimeError: The tests cannot be run at all.
        """
        self.wire.sendall(f"{limit}\n".encode("ascii"))
        told = self.outcomes.readline().strip()
        outcome = OUTCOMES.get(told)
        if outcome is None:
            message = f"The tests did not run ({told}).\n{self.said()}"
            raise RuntimeError(message)
        return outcome

    def said(self) -> str:
        """What the runs wrote, its end."""
        return self.log.read_text("utf-8", "replace")[-3_000:]

    def dismiss(self) -> None:
        """Let it go."""
        self.outcomes.close()
        self.wire.close()
        self.process.wait()


class Trial:
    """A place of its own for one run at a time.

    Args:
        folder: Empty; the copy of the package and what the tests write lie in it.
        stages: How many of the stages are run.

    Raises:
        RuntimeError: The copy is not what would be tested.
    """

    def __init__(self, folder: Path, stages: int = len(STAGES)) -> None:
        self.copy = folder / "package" / PACKAGE.name
        shutil.copytree(PACKAGE, self.copy, ignore=shutil.ignore_patterns("__pycache__"))
        self.limits: tuple[float, ...] = (600.0,) * stages
        # The copy goes before what is installed.
        environment = {**os.environ, "PYTHONPATH": str(self.copy.parent)}
        asked = [sys.executable, "-c", "import llm_gateway; print(llm_gateway.__file__)"]
        found = subprocess.run(asked, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        if Path(found.strip()).parent != self.copy:
            message = f"The tests would run on {found.strip()}, not on the copy."
            raise RuntimeError(message)
        self.crews = [Crew(stage, folder / str(number), environment) for number, stage in enumerate(STAGES[:stages])]

    def calibrate(self) -> tuple[float, ...]:
        """Run every stage on the unchanged scripts, and return how long each may take.

        Raises:
            RuntimeError: The tests fail without a change.
        """
        limits: list[float] = []
        for crew in self.crews:
            begun = time.monotonic()
            outcome = crew.run(600.0)
            if outcome is not Outcome.SURVIVED:
                message = f"Some tests fail without a change ({outcome.value}): mend them first.\n{crew.said()}"
                raise RuntimeError(message)
            limits.append((time.monotonic() - begun) * PATIENCE + GRACE)
        return tuple(limits)

    def judge(self, mutant: Mutant) -> Outcome:
        """Run the tests, quick ones first, until one fails."""
        script = self.copy / (SCRIPTS / mutant.file).relative_to(PACKAGE)
        original = script.read_text("utf-8")
        script.write_text(mutant.text, "utf-8")
        try:
            for crew, limit in zip(self.crews, self.limits, strict=True):
                outcome = crew.run(limit)
                if outcome is not Outcome.SURVIVED:
                    return outcome
            return Outcome.SURVIVED
        finally:
            script.write_text(original, "utf-8")

    def dismiss(self) -> None:
        """Let its processes go."""
        for crew in self.crews:
            crew.dismiss()
