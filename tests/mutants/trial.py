"""Runs the tests of the queue in Redis against a copy of the package in which one script is changed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.mutants.rules import Mutant
from tests.queues.redis_server import BINARIES, NEWEST

__all__ = ["SCRIPTS", "Outcome", "Stage", "Trial"]

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "src" / "llm_gateway"
SCRIPTS: Final = PACKAGE / "queues" / "redis" / "scripts"
# A run may take so many times what the unchanged scripts take, and a little: both cores may be busy.
PATIENCE: Final = 4.0
GRACE: Final = 30.0
# Other servers than the newest run the same scripts.
OTHERS: Final = tuple(Path(binary).parents[1].name for binary in BINARIES if binary != NEWEST)


class Outcome(StrEnum):
    """How a mutant fared. A run that hangs has noticed it too."""

    KILLED = "killed"
    HUNG = "hung"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Stage:
    """Some of the tests: files or tests, and which of them."""

    tests: tuple[str, ...]
    which: str


SLOW: Final = "test_events_past_a_gap or test_two_lost_replies or test_dropped_key or refused or url"
STAGES: Final = (
    Stage(
        ("test_redis.py::TestRedisQueue", "test_redis_lost_replies.py", "test_redis_own.py", "test_redis_scripts.py"),
        f"not ({SLOW})",
    ),
    Stage(("test_redis_model.py", "test_redis.py::TestShards"), f"not ({SLOW})"),
    Stage(("test_redis.py::TestRedisQueue", "test_redis_lost_replies.py", "test_redis_own.py"), SLOW),
)


class Trial:
    """A place of its own for one run at a time.

    Args:
        folder: Empty; the copy of the package and what the tests write lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.copy = folder / "package" / PACKAGE.name
        shutil.copytree(PACKAGE, self.copy, ignore=shutil.ignore_patterns("__pycache__"))
        self.limits: tuple[float, ...] = (600.0,) * len(STAGES)

    @property
    def scripts(self) -> Path:
        """Where the copied scripts lie."""
        return self.copy / SCRIPTS.relative_to(PACKAGE)

    def calibrate(self) -> tuple[float, ...]:
        """Run every stage on the unchanged scripts, and return how long each may take.

        Raises:
            RuntimeError: The copy is not what is tested, or the tests fail without a change.
        """
        asked = [sys.executable, "-c", "import llm_gateway; print(llm_gateway.__file__)"]
        found = subprocess.run(asked, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        if Path(found.strip()).parent != self.copy:
            message = f"The tests would run on {found.strip()}, not on the copy."
            raise RuntimeError(message)
        limits: list[float] = []
        for stage in STAGES:
            begun = time.monotonic()
            outcome = self.run(stage, 600.0)
            if outcome is not Outcome.SURVIVED:
                message = f"{stage} is {outcome.value} without a change: mend the tests first.\n{self.said()}"
                raise RuntimeError(message)
            limits.append((time.monotonic() - begun) * PATIENCE + GRACE)
        return tuple(limits)

    def judge(self, mutant: Mutant) -> Outcome:
        """Run the tests, quick ones first, until one fails."""
        original = (SCRIPTS / mutant.file).read_text("utf-8")
        script = self.scripts / mutant.file
        script.write_text(mutant.text, "utf-8")
        try:
            for stage, limit in zip(STAGES, self.limits, strict=True):
                outcome = self.run(stage, limit)
                if outcome is not Outcome.SURVIVED:
                    return outcome
            return Outcome.SURVIVED
        finally:
            script.write_text(original, "utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """The copy goes before what is installed."""
        return {**os.environ, "PYTHONPATH": str(self.copy.parent)}

    def run(self, stage: Stage, limit: float) -> Outcome:
        """Run some tests, and leave neither a process nor a server behind.

        Raises:
            RuntimeError: The tests cannot be run at all.
        """
        tests = [
            f"tests/queues/{name}" for name in stage.tests if (ROOT / "tests/queues" / name.partition("::")[0]).exists()
        ]
        which = " and ".join([f"({stage.which})", *(f"not {other}" for other in OTHERS)])
        quiet = ("-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-p", "tests.mutants.quick", "--hypothesis-seed=0")
        place = f"--basetemp={self.folder / 'tests'}"
        asked = [sys.executable, "-m", "pytest", *quiet, place, "-k", which, *tests]
        with (self.folder / "said").open("wb") as said:
            process = subprocess.Popen(
                asked, env=self.environment, cwd=ROOT, stdout=said, stderr=said, start_new_session=True
            )
            try:
                code = process.wait(timeout=limit)
            except subprocess.TimeoutExpired:
                return Outcome.HUNG
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code not in (0, 1):
            message = f"The tests did not run.\n{self.said()}"
            raise RuntimeError(message)
        return Outcome.KILLED if code else Outcome.SURVIVED

    def said(self) -> str:
        """What the last run wrote, its end."""
        return (self.folder / "said").read_text("utf-8", "replace")[-3_000:]
