"""What each environment permits, by whichever route a client is put together, and where settings come from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, cast

import pytest
from pydantic import SecretStr

from llm_gateway import ConfigurationError, Environment, LLMClient, LLMRequest, Parts, Settings
from llm_gateway._core.environments import EVERYWHERE
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.caches.dev import DevCache
from llm_gateway.options import BreakerOptions
from llm_gateway.providers.mock import MockProvider
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.publishers.memory import MemoryPublisher
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeCache, FakeCodec, FakeProvider
from llm_gateway.wiring import wire

KEY: Final = "sk-canary-3f1e9c"
STRICT: Final = (Environment.STAGING, Environment.PRODUCTION)
README: Final = """
import asyncio
from llm_gateway import LLMClient, LLMRequest

async def main() -> None:
    async with LLMClient.from_settings() as client:
        print(await client.complete(LLMRequest(provider="mock", model="mock-1", prompt="Say hello.")))

asyncio.run(main())
"""


class DurableQueue(MemoryQueue):
    """A queue that says it survives the process and may run everywhere."""

    @property
    def durable(self) -> bool:
        """True."""
        return True

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE


class Foreign(Enum):
    """Another project's environments."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment that says nothing."""
    for name in list(os.environ):
        if name.upper().startswith(("LLM_GATEWAY_", "OPENAI_", "ANTHROPIC_")) or name.upper() == "ENVIRONMENT":
            monkeypatch.delenv(name)


def real() -> FakeProvider:
    """Make a provider that may run everywhere."""
    return FakeProvider(allowed_in=EVERYWHERE)


REFUSED: Final[dict[str, tuple[Callable[[Environment], object], str]]] = {
    "dev cache by settings": (
        lambda environment: LLMClient.from_settings(
            Settings(environment=environment, dev_cache=True, openai_api_key=SecretStr(KEY), queue="none")
        ),
        "dev_cache",
    ),
    "memory queue by settings": (
        lambda environment: LLMClient.from_settings(
            Settings(environment=environment, queue="memory", openai_api_key=SecretStr(KEY))
        ),
        "memory queue",
    ),
    "dev cache": (
        lambda environment: LLMClient([real()], None, Parts(environment=environment, cache=DevCache())),
        "DevCache",
    ),
    "a cache that says it may": (
        lambda environment: LLMClient(
            [real()], None, Parts(environment=environment, cache=FakeCache(allowed_in=EVERYWHERE))
        ),
        "FakeCache",
    ),
    "mock provider": (
        lambda environment: LLMClient([MockProvider()], None, Parts(environment=environment)),
        "MockProvider",
    ),
    "memory queue": (
        lambda environment: LLMClient(
            [real()], MemoryQueue(), Parts(environment=environment, allow_plaintext_queue=True)
        ),
        "MemoryQueue",
    ),
    "unsealed codec": (
        lambda environment: LLMClient([real()], DurableQueue(), Parts(environment=environment)),
        "PlainCodec",
    ),
    "memory publisher": (
        lambda environment: LLMClient([real()], None, Parts(environment=environment, publisher=MemoryPublisher())),
        "MemoryPublisher",
    ),
}


@pytest.mark.parametrize("environment", STRICT)
@pytest.mark.parametrize(("build", "named"), REFUSED.values(), ids=REFUSED)
def test_refused(build: Callable[[Environment], object], named: str, environment: Environment) -> None:
    """What could replay or lose something cannot be built in staging and production, and the error names it."""
    with pytest.raises(ConfigurationError) as caught:
        build(environment)
    assert named in caught.value.message
    assert environment.value in caught.value.message


@pytest.mark.parametrize("environment", sorted(set(Environment) - set(STRICT)))
@pytest.mark.parametrize(("build", "named"), REFUSED.values(), ids=REFUSED)
def test_permitted(build: Callable[[Environment], object], named: str, environment: Environment) -> None:
    """The same can be built in development and testing."""
    assert isinstance(build(environment), LLMClient), named


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [("LLM_GATEWAY_DEV_CACHE", "true", "dev_cache"), ("LLM_GATEWAY_QUEUE", "memory", "memory queue")],
)
def test_refused_by_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str) -> None:
    """The process environment is a route like any other."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=named):
        LLMClient.from_settings()


def test_all_problems_at_once() -> None:
    """An error names everything that is refused, not only the first."""
    parts = Parts(environment=Environment.PRODUCTION, cache=DevCache())
    with pytest.raises(ConfigurationError) as caught:
        LLMClient([MockProvider()], MemoryQueue(), parts)
    named = [name for name in ("DevCache", "MockProvider", "MemoryQueue", "PlainCodec") if name in caught.value.message]
    assert len(named) == 4


@pytest.mark.parametrize("parts", [Parts(codec=FakeCodec()), Parts(allow_plaintext_queue=True)])
async def test_production_that_keeps_its_promises(parts: Parts) -> None:
    """A durable queue, sealed or with plain text accepted, and real providers run in production."""
    async with LLMClient([real()], DurableQueue(), parts) as client:
        assert (await client.health()).environment is Environment.PRODUCTION


def test_no_mock_in_production() -> None:
    """Settings never wire the mock provider in production."""
    wired = wire(Settings(openai_api_key=SecretStr(KEY), queue="none"))
    assert [provider.name for provider in wired.providers] == ["openai"]


def test_unset_is_production() -> None:
    """Nothing said means production, in settings and for a client made by hand."""
    assert Settings().environment is Environment.PRODUCTION
    with pytest.raises(ConfigurationError, match="production"):
        LLMClient([MockProvider()])


@pytest.mark.parametrize(
    ("ours", "plain", "expected"),
    [
        (None, "development", "development"),
        ("staging", "development", "staging"),
        (None, " Testing ", "testing"),
        ("", "development", "development"),
        ("", "", "production"),
    ],
)
def test_environment_of_the_process(
    monkeypatch: pytest.MonkeyPatch, ours: str | None, plain: str, expected: str
) -> None:
    """The variable with the prefix beats the plain one; empty is unset."""
    monkeypatch.setenv("ENVIRONMENT", plain)
    if ours is not None:
        monkeypatch.setenv("LLM_GATEWAY_ENVIRONMENT", ours)
    assert Settings().environment == expected
    assert Settings(environment=Environment.TESTING).environment is Environment.TESTING


@pytest.mark.parametrize("name", ["ENVIRONMENT", "LLM_GATEWAY_ENVIRONMENT"])
def test_unknown_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An unknown environment is an error that lists the four, not a guess."""
    monkeypatch.setenv(name, "prod")
    for build in (Settings, lambda: LLMClient([real()])):
        with pytest.raises(ConfigurationError) as caught:
            build()
        assert "development, testing, staging, production" in str(caught.value)


def test_foreign_enum() -> None:
    """Another project's enum is taken by its value, by settings and by constructor."""
    production = cast("Environment", Foreign.PRODUCTION)
    assert Settings(environment=production).environment is Environment.PRODUCTION
    with pytest.raises(ConfigurationError, match="MockProvider may not run in production"):
        LLMClient([MockProvider()], None, Parts(environment=production))
    assert isinstance(
        LLMClient([MockProvider()], None, Parts(environment=cast("Environment", Foreign.DEVELOPMENT))), LLMClient
    )


def run(program: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program with only these variables beside the usual ones."""
    usual = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=usual | variables,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_readme_in_development(tmp_path: Path) -> None:
    """The lines of the README make a call in development."""
    done = run(README, tmp_path, ENVIRONMENT="development")
    assert (done.returncode, done.stdout.startswith("Completed(")) == (0, True)


def test_readme_in_production(tmp_path: Path) -> None:
    """The same lines refuse to start in production and name exactly the settings that are missing."""
    done = run(README, tmp_path)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    named = set(re.findall(r"LLM_GATEWAY_(\w+)", last))
    provider, place = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}, {"QUEUE", "QUEUE_PATH", "REDIS_URL"}
    assert provider | place | {"QUEUE_KEYS", "ALLOW_PLAINTEXT_QUEUE"} == named


PRODUCTION: Final = """
import asyncio, sys
from llm_gateway import LLMClient, LLMRequest, Settings
from llm_gateway.testing.simulated import SimulatedProvider

async def main():
    async with SimulatedProvider() as sim:
        settings = Settings(openai_base_url=sim.openai_url)
        async with LLMClient.from_settings(settings) as client:
            question = LLMRequest(provider="openai", model="gpt-5-mini", prompt="Say hello.")
            outcomes = await asyncio.gather(*(client.complete(question) for _ in range(20)))
    ids = {outcome.response.receipt.response_id for outcome in outcomes}
    print(len(ids), len(sim.calls), settings.environment.value)
    print([name for name in sys.modules if name.startswith("llm_gateway.caches") and not name.endswith("none")])

asyncio.run(main())
"""


def test_production_process(tmp_path: Path) -> None:
    """In production identical calls are as many answers, and the cache of answers is not even imported."""
    done = run(PRODUCTION, tmp_path, LLM_GATEWAY_OPENAI_API_KEY=KEY, LLM_GATEWAY_QUEUE="none")
    assert (done.stderr, done.stdout) == ("", "20 20 production\n['llm_gateway.caches']\n")


def test_nested_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested options are read from variables with two underscores."""
    monkeypatch.setenv("LLM_GATEWAY_WORKER__LEASE_SECONDS", "3")
    monkeypatch.setenv("LLM_GATEWAY_RETRY__ATTEMPTS", "5")
    settings = Settings()
    assert (settings.worker.lease_seconds, settings.worker.concurrency, settings.retry.attempts) == (3.0, 8, 5)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("LLM_GATEWAY_WORKER__LEASE_SECONDS", "soon", "lease_seconds"),
        ("LLM_GATEWAY_WORKER__LEASE_SECONDS", "-1", "lease_seconds"),
        ("LLM_GATEWAY_WORKER", "soon", "WorkerOptions"),
        ("LLM_GATEWAY_WORKER__UNKNOWN", "1", "unknown"),
        ("LLM_GATEWAY_QUEUE", KEY, "queue"),
        ("LLM_GATEWAY_DEV_CACHE", KEY, "dev_cache"),
    ],
)
def test_unusable_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str) -> None:
    """A variable that cannot be used is a typed error that names it and not its value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert named in caught.value.message
    assert KEY not in "".join(traceback.format_exception(caught.value))


VARIABLES: Final = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")


def shown(settings: Settings, name: str) -> str | None:
    """Read one setting in plain text."""
    value: object = getattr(settings, name)
    return value.get_secret_value() if isinstance(value, SecretStr) else cast("str | None", value)


@pytest.mark.parametrize("variable", VARIABLES)
def test_precedence(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Code beats the variable with the prefix, which beats the vendor's own, which beats the default."""
    name = variable.lower()
    default = shown(Settings(), name)
    monkeypatch.setenv(variable, "https://vendor.test")
    assert shown(Settings(), name) == "https://vendor.test"
    monkeypatch.setenv(f"LLM_GATEWAY_{variable}", "https://ours.test")
    assert shown(Settings(), name) == "https://ours.test"
    assert shown(Settings.model_validate({name: "https://code.test"}), name) == "https://code.test"
    monkeypatch.setenv(f"LLM_GATEWAY_{variable}", "")
    assert shown(Settings(), name) == "https://vendor.test"
    monkeypatch.setenv(variable, "")
    assert shown(Settings(), name) == default


def test_code_beats_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value given to the constructor beats both variables."""
    monkeypatch.setenv("OPENAI_API_KEY", "vendor")
    monkeypatch.setenv("LLM_GATEWAY_OPENAI_API_KEY", "ours")
    assert shown(Settings(openai_api_key=SecretStr("code")), "openai_api_key") == "code"


def test_unknown_setting() -> None:
    """A setting that does not exist is an error, not ignored."""
    with pytest.raises(ConfigurationError, match="open_ai_api_key"):
        Settings.model_validate({"open_ai_api_key": KEY})


def test_keys_are_not_shown() -> None:
    """No key is in the repr of settings, providers or clients, nor in the errors of unusable ones."""
    settings = Settings(openai_api_key=SecretStr(KEY), anthropic_api_key=SecretStr(KEY), queue="none")
    client = LLMClient.from_settings(settings)
    provider = OpenAIProvider(SecretStr(KEY))
    told = [settings, client, provider, provider.key_id, *wire(settings).providers, vars(client)]
    assert [text for text in map(repr, told) if KEY in text] == []
    for bad in (f"{KEY}\n", f" {KEY}", f"{KEY}é"):
        with pytest.raises(ConfigurationError) as caught:
            LLMClient.from_settings(Settings(openai_api_key=SecretStr(bad), queue="none"))
        assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_import_reads_nothing(tmp_path: Path) -> None:
    """Importing the package reads no setting, so that a bad one does not stop an import."""
    done = run("import llm_gateway.client, llm_gateway.settings, llm_gateway.wiring", tmp_path, ENVIRONMENT="bogus")
    assert (done.returncode, done.stderr) == (0, "")


async def test_development_wires_the_mock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In development a client needs no key: there is the mock, and a memory queue."""
    monkeypatch.chdir(tmp_path)
    async with LLMClient.from_settings(Settings(environment=Environment.DEVELOPMENT)) as client:
        health = await client.health()
        await client.complete(LLMRequest(provider="mock", model="mock-1", prompt="Say hello."))
    assert (health.providers, health.queue, health.durable) == (("mock",), "MemoryQueue", False)


@pytest.mark.parametrize("lease", [299.0, 300.0])
def test_probe_that_would_be_given_up_too_soon(lease: float) -> None:
    """A lease of probes that ends before an attempt may is refused, and both options are named."""
    parts = Parts(environment=Environment.TESTING, breaker=CircuitGate(BreakerOptions(probe_lease=lease)))
    with pytest.raises(ConfigurationError, match=r"http\.attempt_timeout.*breaker\.probe_lease"):
        LLMClient([FakeProvider()], None, parts)
