"""What production misses is told at once, by the variables that would set it."""

from __future__ import annotations

import os
import sys
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest

from llm_gateway import ConfigurationError, LLMClient
from llm_gateway.errors import MissingDependencyError

KEY: Final = "sk-canary-3f1e9c"
SEALING: Final = [f"llm_gateway.codecs.{name}" for name in ("aesgcm", "_envelope", "_keyring")]
SEALED: Final = {
    "LLM_GATEWAY_OPENAI_API_KEY": KEY,
    "LLM_GATEWAY_QUEUE_PATH": "queue.db",
    "LLM_GATEWAY_QUEUE_KEYS": "A" * 43 + "=",
}
REFUSED_WITHOUT: Final[dict[str, tuple[str, ...]]] = {
    "LLM_GATEWAY_OPENAI_API_KEY": ("LLM_GATEWAY_OPENAI_API_KEY", "LLM_GATEWAY_ANTHROPIC_API_KEY"),
    "LLM_GATEWAY_QUEUE_PATH": ("LLM_GATEWAY_REDIS_URL", "LLM_GATEWAY_QUEUE_PATH", "LLM_GATEWAY_QUEUE"),
    "LLM_GATEWAY_QUEUE_KEYS": ("LLM_GATEWAY_QUEUE_KEYS", "LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE=true"),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start from an environment that says nothing, in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(("LLM_GATEWAY_", "OPENAI_", "ANTHROPIC_")) or name.upper() == "ENVIRONMENT":
            monkeypatch.delenv(name)


@pytest.mark.parametrize("left_out", [(), *combinations(SEALED, 1), *combinations(SEALED, 2), tuple(SEALED)], ids=len)
def test_what_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch, left_out: tuple[str, ...]) -> None:
    """Whatever is missing of key, place and keys of the queue, one error names all of it, and nothing else."""
    for name in SEALED.keys() - set(left_out):
        monkeypatch.setenv(name, SEALED[name])
    if not left_out:
        assert isinstance(LLMClient.from_settings(), LLMClient)
        return
    with pytest.raises(ConfigurationError) as caught:
        LLMClient.from_settings()
    told = [name for name, words in REFUSED_WITHOUT.items() if all(word in caught.value.message for word in words)]
    assert list(left_out) == told


@pytest.mark.parametrize("name", ["LLM_GATEWAY_QUEUE_KEYS", "LLM_GATEWAY_QUEUE"])
def test_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The extra that seals is named together with the rest, whether the keys are set already or not."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setenv(name, {"LLM_GATEWAY_QUEUE": "sqlite"}.get(name, "A" * 43 + "="))
    with pytest.raises(ConfigurationError) as caught:
        LLMClient.from_settings()
    words = ("pip install 'llm-gateway[sealed]'", "LLM_GATEWAY_OPENAI_API_KEY", "LLM_GATEWAY_QUEUE_PATH")
    assert [] == [word for word in words if word not in caught.value.message]


def test_extra_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing but the extra is missing, the error is of the class that says so."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography" or name in SEALING]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for name, value in SEALED.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MissingDependencyError, match="sealed"):
        LLMClient.from_settings()
