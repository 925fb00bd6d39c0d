"""Which queue the settings choose, and that it is there from one process to the next."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from llm_gateway import ConfigurationError, Environment, Settings
from llm_gateway.wiring import wire

KEY: Final = "sk-canary-3f1e9c"
REDIS_URL: Final = "redis://user:canary-password@127.0.0.1:1/0"
SUBMITTING: Final = """
import asyncio
from llm_gateway import LLMClient, LLMRequest

async def main() -> None:
    async with LLMClient.from_settings() as client:
        await client.submit(LLMRequest(provider="openai", model="gpt-5-mini", prompt="Say hello."))
        print((await client.health()).depth)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start from an environment that says nothing."""
    for name in list(os.environ):
        if name.upper().startswith(("LLM_GATEWAY_", "OPENAI_", "ANTHROPIC_")) or name.upper() == "ENVIRONMENT":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, "MemoryQueue"),
        ({"queue_path": "queue.db"}, "SqliteQueue"),
        ({"redis_url": REDIS_URL}, "RedisQueue"),
        ({"redis_url": REDIS_URL, "queue_path": "queue.db"}, "RedisQueue"),
        ({"redis_url": REDIS_URL, "queue_path": "queue.db", "queue": "sqlite"}, "SqliteQueue"),
        ({"redis_url": REDIS_URL, "queue": "memory"}, "MemoryQueue"),
        ({"redis_url": REDIS_URL, "queue": "none"}, "NoneType"),
    ],
)
def test_queue_is_chosen_by_what_is_given(given: dict[str, str], kind: str) -> None:
    """A Redis server beats a file, a file beats memory, and what is named beats them all."""
    settings = Settings.model_validate({"environment": "development", **given})
    assert kind == type(wire(settings).queue).__name__
    assert "canary-password" not in f"{settings!r}{wire(settings).queue!r}"


@pytest.mark.parametrize("environment", Environment)
@pytest.mark.parametrize(("queue", "named"), [("redis", "LLM_GATEWAY_REDIS_URL"), ("sqlite", "LLM_GATEWAY_QUEUE_PATH")])
def test_queue_without_a_place_is_refused(environment: Environment, queue: str, named: str) -> None:
    """A queue that is asked for without its server or file is refused, and the setting is named."""
    settings = Settings.model_validate({"environment": environment, "queue": queue, "openai_api_key": KEY})
    with pytest.raises(ConfigurationError) as refusal:
        wire(settings)
    assert named in refusal.value.message


def test_redis_url_with_a_mistake_is_refused_unseen() -> None:
    """A URL that cannot be read is refused without being shown."""
    settings = Settings(environment=Environment.DEVELOPMENT, redis_url=SecretStr("redis://x:canary-password@host:port"))
    with pytest.raises(ConfigurationError) as refusal:
        wire(settings)
    assert "canary-password" not in "".join(traceback.format_exception(refusal.value))


def test_production_starts_from_a_path_alone(tmp_path: Path) -> None:
    """With a key and a path a production process takes requests in and keeps them for the next one."""
    given = {
        "LLM_GATEWAY_OPENAI_API_KEY": KEY,
        "LLM_GATEWAY_QUEUE_PATH": str(tmp_path / "queue.db"),
        "LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE": "true",
    }
    depths = [submitted(tmp_path, given) for _ in range(2)]
    assert [["1"], ["2"]] == depths


def submitted(directory: Path, variables: dict[str, str]) -> list[str]:
    """Submit in a production process of its own, and return the depth it tells."""
    usual = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-c", SUBMITTING]
    done = subprocess.run(command, env=usual | variables, cwd=directory, capture_output=True, timeout=60, check=True)
    return done.stdout.decode().split()
