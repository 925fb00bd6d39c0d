"""Settings, read from the environment or given in code. Nothing is read at import."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from llm_gateway._core.checked import complaints
from llm_gateway._core.environments import Environment, parse_environment
from llm_gateway._process import environment_of_process
from llm_gateway.errors import ConfigurationError
from llm_gateway.options import BreakerOptions, HttpOptions, QueueOptions, RedisOptions, RetryOptions, WorkerOptions

__all__ = ["Settings", "settings_of_process", "unknown_variables"]

logger: Final = logging.getLogger("llm_gateway")
PREFIX: Final = "LLM_GATEWAY_"
HOW_TO_SET: Final = "Correct it in code or in its variable: LLM_GATEWAY_<NAME>, or LLM_GATEWAY_<NAME>__<OPTION>."


class Settings(BaseSettings):
    """Everything a client is built from, each with a default but keys and URLs.

    A value given in code beats ``LLM_GATEWAY_<NAME>``, which beats the vendor's own variable such as
    ``OPENAI_API_KEY``. Nested options are written ``LLM_GATEWAY_WORKER__LEASE_SECONDS=3``. A value that cannot be
    used is a `ConfigurationError` that shows no secret.

    Attributes:
        environment: development, testing, staging or production; unset means production.
        openai_api_key: Key of the provider ``openai``.
        openai_base_url: Where it is asked.
        anthropic_api_key: Key of the provider ``anthropic``.
        anthropic_base_url: Where it is asked.
        queue: ``redis``, ``sqlite``, ``memory`` (development and testing only) or ``none``, which makes an outage an
            error. ``auto`` is ``redis`` where `redis_url` is given, else ``sqlite`` where `queue_path` is, else
            ``memory`` in development and testing; staging and production refuse to guess.
        redis_url: The Redis server of the queue: ``redis://user:password@host:6379/0``, or ``rediss://`` with TLS;
            of a cluster any node, as ``redis+cluster://``.
        queue_path: The file of the SQLite queue.
        queue_namespace: What the keys of the queue in Redis begin with.
        queue_keys: Keys that seal what the queue stores: base64 of 32 bytes each, newest first, in the variable
            separated by commas. Needs the extra ``sealed``.
        allow_plaintext_queue: Store payloads unsealed in staging and production.
        dev_cache: Replay answers in development and testing; refused elsewhere.
        dev_cache_dir: Where replays are kept.
        http: How HTTP calls are made.
        breaker: When circuits open.
        retry: When a live call is tried again.
        queue_options: Bounds and retention of the queue.
        redis: How the queue uses its Redis server.
        worker: How a worker drains the queue.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        # No variable holds JSON: one that did and was malformed would not be a typed error.
        enable_decoding=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    environment: Environment = Field(default_factory=environment_of_process)
    openai_api_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("LLM_GATEWAY_OPENAI_API_KEY", "openai_api_key"))
    ] = None
    openai_base_url: Annotated[
        str, Field(validation_alias=AliasChoices("LLM_GATEWAY_OPENAI_BASE_URL", "openai_base_url"))
    ] = "https://api.openai.com/v1"
    anthropic_api_key: Annotated[
        SecretStr | None, Field(validation_alias=AliasChoices("LLM_GATEWAY_ANTHROPIC_API_KEY", "anthropic_api_key"))
    ] = None
    anthropic_base_url: Annotated[
        str, Field(validation_alias=AliasChoices("LLM_GATEWAY_ANTHROPIC_BASE_URL", "anthropic_base_url"))
    ] = "https://api.anthropic.com"
    queue: Literal["auto", "memory", "sqlite", "redis", "none"] = "auto"
    redis_url: SecretStr | None = None
    queue_path: Path | None = None
    queue_namespace: str = "llm_gateway"
    queue_keys: tuple[SecretStr, ...] = ()
    allow_plaintext_queue: bool = False
    dev_cache: bool = False
    dev_cache_dir: Path = Path(".llm_gateway_cache")
    http: HttpOptions = HttpOptions()
    breaker: BreakerOptions = BreakerOptions()
    retry: RetryOptions = RetryOptions()
    queue_options: QueueOptions = QueueOptions()
    redis: RedisOptions = RedisOptions()
    worker: WorkerOptions = WorkerOptions()

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_typed(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            message = f"The settings are not valid: {complaints(error)}."
        raise ConfigurationError(message, next_step=HOW_TO_SET)

    @property
    def queue_kind(self) -> Literal["memory", "sqlite", "redis", "none"]:
        """What `queue` comes to once ``auto`` is decided."""
        if self.queue != "auto":
            return self.queue
        if self.redis_url is not None:
            return "redis"
        return "sqlite" if self.queue_path is not None else "memory"

    @field_validator("queue_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(key for key in value.split(",") if key.strip()) if isinstance(value, str) else value

    @field_validator("environment", mode="before")
    @classmethod
    def _by_value(cls, value: object) -> Environment:
        return parse_environment(str(getattr(value, "value", value)))


def settings_of_process() -> Settings:
    """Read the settings from the environment, and warn of variables with our prefix that are none."""
    for variable in unknown_variables():
        logger.warning("%s is no setting of llm_gateway", variable)
    return Settings()


def unknown_variables() -> list[str]:
    """Return the variables of the process that have our prefix and are no setting: slips, mostly."""
    names = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    ours = (variable for variable in sorted(os.environ) if variable.upper().startswith(PREFIX))
    return [variable for variable in ours if variable.upper().partition("__")[0] not in names]
