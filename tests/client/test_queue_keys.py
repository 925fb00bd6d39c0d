"""The setting that seals the queue: read from the environment or code, wired, and never shown."""

from __future__ import annotations

import subprocess
import sys
import traceback

import pytest
from pydantic import SecretStr
from tests.codecs.stores import NEW, OLD

from llm_gateway import ConfigurationError, Environment, Settings
from llm_gateway.codecs.aesgcm import AesGcmCodec
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.wiring import wire

TESTING = Environment.TESTING


@pytest.mark.parametrize("value", [f"{NEW},{OLD}", f" {NEW} ,, {OLD},"])
async def test_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Keys come from one variable, newest first, separated by commas, and the queue is sealed with them."""
    monkeypatch.setenv("LLM_GATEWAY_QUEUE_KEYS", value)
    settings = Settings(environment=TESTING)
    wired = wire(settings)
    assert isinstance(wired.parts.codec, AesGcmCodec)
    assert wired.queue is not None
    blob = await wired.parts.codec.seal(b"x", tenant="", ticket_id="t", kind="payload")
    newest = AesGcmCodec([NEW], wired.queue)
    assert b"x" == await newest.open(blob, tenant="", ticket_id="t", kind="payload")
    assert [] == [key for key in (NEW, OLD) if key in repr(settings) + repr(wired)]


async def test_in_code() -> None:
    """Keys given in code are taken as they are."""
    wired = wire(Settings(environment=TESTING, queue_keys=(SecretStr(OLD), SecretStr(NEW))))
    assert wired.queue is not None
    blob = await wired.parts.codec.seal(b"x", tenant="", ticket_id="t", kind="payload")
    first = AesGcmCodec([OLD], wired.queue)
    assert b"x" == await first.open(blob, tenant="", ticket_id="t", kind="payload")


@pytest.mark.parametrize(
    "settings",
    [Settings(environment=TESTING), Settings(environment=TESTING, queue="none", queue_keys=(SecretStr(NEW),))],
    ids=["no keys", "no queue"],
)
def test_not_sealed(settings: Settings) -> None:
    """Without keys, or without a queue, nothing is sealed."""
    assert isinstance(wire(settings).parts.codec, PlainCodec)


@pytest.mark.parametrize("value", ["canary", f"{NEW},canary", "canary="])
def test_bad_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A key that is none is a typed error that tells its place and shows no key."""
    monkeypatch.setenv("LLM_GATEWAY_QUEUE_KEYS", value)
    with pytest.raises(ConfigurationError, match=f"Key {1 + value.count(',')} ") as caught:
        wire(Settings(environment=TESTING))
    assert [] == [key for key in ("canary", NEW) if key in "".join(traceback.format_exception(caught.value))]


def test_wrong_type() -> None:
    """Keys that are no text are a typed error."""
    with pytest.raises(ConfigurationError, match="queue_keys"):
        Settings.model_validate({"environment": "testing", "queue_keys": 7})


def test_cryptography_is_loaded_only_with_keys() -> None:
    """A client that does not seal does not need the extra."""
    program = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from llm_gateway import LLMClient, Settings\n"
        "LLMClient.from_settings(Settings(environment='development'))\n"
        "print('llm_gateway.codecs.aesgcm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (0, "False\n", "") == (done.returncode, done.stdout, done.stderr)
