"""Every example runs as a program of its own and says what its text promises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from examples.demo.material import load_essays

from llm_gateway.testing.simulated import BradleyTerryJudge, SimulatedProvider

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# What a provider or a console would be told by the machine at hand.
FOREIGN = ("OPENAI_", "ANTHROPIC_", "LLM_GATEWAY_", "FORCE_COLOR", "TTY_")


def run(*arguments: str, environment: str = "development", **extra: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env={**kept, "ENVIRONMENT": environment, "PYTHONIOENCODING": "utf-8", **extra},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def output_of(script: str) -> str:
    ended = run(f"examples/{script}")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_quickstart_makes_a_call_with_nothing_running() -> None:
    """The quickstart prints a completed outcome."""
    assert output_of("quickstart.py").startswith("Completed(")


def test_quickstart_refuses_to_start_in_production() -> None:
    """In production the quickstart fails before any call, and names each setting that is missing."""
    ended = run("examples/quickstart.py", environment="production")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "ConfigurationError" in last
    assert "LLM_GATEWAY_OPENAI_API_KEY" in last
    assert "LLM_GATEWAY_QUEUE" in last


def test_judgement_prints_a_typed_verdict() -> None:
    """The judgement example has the better text win, and names the model that served it."""
    lines = output_of("judgement.py").splitlines()
    assert lines[0] == "winner: Essay B"
    assert re.fullmatch(r"served by gpt-4\.1-mini-\S+, [1-9]\d* tokens of output", lines[1])


def test_outage_ends_in_an_answer() -> None:
    """The outage example is given tickets that wait unspent and end in an answer."""
    assert output_of("outage.py").splitlines() == [
        "asked during the outage: processing",
        "submitted: processing (queued), attempts spent: 0",
        "answer to r-1: stop, by way of the queue",
        "answer to r-2: stop, by way of the queue",
    ]


def test_demo_loses_and_replays_nothing() -> None:
    """The demo, not on a terminal, ends with every question answered once, in a log free of control sequences."""
    ended = run("examples/demo", FORCE_COLOR="1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    counts = dict(re.findall(r"^ *([a-z][a-z ]+?) {2,}(\S+) *$", ended.stdout, flags=re.MULTILINE))
    assert {name: counts[name] for name in ("asked", "completed", "lost", "replayed", "distinct response ids")} == {
        "asked": "60",
        "completed": "60",
        "lost": "0",
        "replayed": "0",
        "distinct response ids": "60",
    }
    assert int(counts["answered live"]) + int(counts["queued"]) == 60
    assert int(counts["queued"]) > 0
    assert counts["cost"].startswith("$")
    assert 'status "processing"' in ended.stdout
    assert "18 more questions while the circuit is open: 0 calls reached the provider" in ended.stdout
    assert len(re.findall(r"^ *\d+  +\d\d-[a-z-]+ ", ended.stdout, flags=re.MULTILINE)) == 12
    assert "\x1b" not in ended.stdout + ended.stderr


def test_demo_without_a_key_says_what_is_missing() -> None:
    """``--real`` without a key exits with 2 and names the two keys."""
    ended = run("examples/demo", "--real")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "OPENAI_API_KEY or ANTHROPIC_API_KEY" in ended.stderr


def test_demo_spends_nothing_without_consent() -> None:
    """``--real`` with a key shows the cost, and without anyone to agree to it exits with 2."""
    ended = run("examples/demo", "--real", "--calls", "3", ANTHROPIC_API_KEY="sk-ant-none")
    assert ended.returncode == 2
    assert re.fullmatch(r"3 judgements by anthropic claude-haiku-4-5: at most \$0\.\d{4}\.\n", ended.stdout)
    assert "--yes" in ended.stderr


async def test_demo_asks_a_real_endpoint_just_as_often_as_agreed() -> None:
    """``--real --yes`` makes exactly the calls asked for, to the endpoint that is configured, and stages no outage."""
    abilities = {text: float(place) for place, text in enumerate(load_essays().values())}
    async with SimulatedProvider(answer=BradleyTerryJudge(abilities)) as sim:
        where = {"OPENAI_API_KEY": "sk-sim", "OPENAI_BASE_URL": sim.openai_url}
        call = partial(run, "examples/demo", "--real", "--yes", "--calls", "4", **where)
        ended = await anyio.to_thread.run_sync(call)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert {call.outcome for call in sim.calls} == {"ok"}
        assert sim.call_count == 4
    assert re.search(r"^ *answered live +4 *$", ended.stdout, flags=re.MULTILINE)
    assert re.search(r"^ *provider calls +4 *$", ended.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("option", ["--real", "--calls", "--seed", "--yes"])
def test_demo_explains_its_options(option: str) -> None:
    """``--help`` explains each option."""
    assert re.search(rf"^  {option}.* {{2,}}\w", run("examples/demo", "--help").stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_small_examples_stay_small(script: Path) -> None:
    """An example beside the demo has at most 60 lines."""
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 60


def test_the_cost_of_the_policies_can_be_measured() -> None:
    """The benchmark that reaches inside the client follows its code."""
    ended = run("bench/policy.py", "1", "5")
    assert ended.returncode == 0, ended.stderr
    assert {"bare", "policies", "complete"} == set(json.loads(ended.stdout))
