"""What every HTTP adapter does: bytes out, a reply in, and each of its ways to be wrong as a typed error."""

from __future__ import annotations

import hashlib
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, NoReturn

from pydantic import JsonValue, SecretStr

from llm_gateway._core import strictjson
from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._core.freshness import FreshnessProfile
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import PreparedCall, ProviderAnswer
from llm_gateway._core.schema import OutputSchema
from llm_gateway._facts import Fault
from llm_gateway._io.http import HttpClient, HttpReply, key_id, validate_key
from llm_gateway.errors import ConfigurationError, ErrorInfo, InvalidRequest, LLMGatewayError
from llm_gateway.protocols import Provider
from llm_gateway.providers._json import object_at
from llm_gateway.providers._profiles import Profile, unsupported
from llm_gateway.providers._reading import Reading, refuse_reading
from llm_gateway.providers._schemas import SchemaRules, compile_schema
from llm_gateway.providers._snapshots import is_snapshot
from llm_gateway.providers._status import Refusal, refused

__all__ = ["HttpProvider"]

OK: Final = 200
REMEMBERED_SCHEMAS: Final = 256
REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
SURROGATE: Final = b"\\ud"


class HttpProvider(Provider):
    """The part of an adapter that is the same for every vendor.

    A vendor supplies `write` and `read`, which are pure, the tables they go by, and the headers that a key is sent in.
    """

    adapter: str
    path: str
    request_id_header: str
    rules: SchemaRules
    profiles: Mapping[str, Profile]

    def __init__(
        self, api_key: SecretStr, http: HttpClient, *, name: str, headers: Callable[[str], Mapping[str, str]]
    ) -> None:
        self._http = http
        self._name = name
        secret = _checked(api_key, name)
        self._key_id = key_id(secret)
        self._headers = {"content-type": "application/json", **headers(secret)}
        self._compiled: dict[int, tuple[object, JsonValue]] = {}

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    @property
    def name(self) -> str:
        """Name that requests use."""
        return self._name

    @property
    def endpoint(self) -> str:
        """Host that is asked."""
        return self._http.endpoint

    @property
    def key_id(self) -> str:
        """Digest that tells keys apart."""
        return self._key_id

    @property
    def freshness(self) -> FreshnessProfile:
        """Both vendors keep their response ids unique and count the tokens of every answer."""
        return FreshnessProfile(unique_response_ids=True, counts_usage=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r} at {self.endpoint}>"

    def __reduce__(self) -> NoReturn:
        message = f"A {type(self).__name__} holds a key and connections, and cannot be pickled or copied."
        raise TypeError(message)

    @abstractmethod
    def write(
        self, request: LLMRequest, schema: OutputSchema, compiled: JsonValue, dropped: frozenset[str]
    ) -> dict[str, JsonValue]:
        """Write a request as this vendor wants it."""

    @abstractmethod
    def read(self, body: JsonValue, request_id: str | None) -> Reading:
        """Read this vendor's answer; `MalformedResponse` when it is none."""

    def prepare(self, request: LLMRequest, schema: OutputSchema) -> PreparedCall:
        """Turn a request into bytes, without I/O.

        Raises:
            UnsupportedParameter: the model does not take a parameter, and it may not be dropped.
            UnsupportedSchema: the vendor cannot express the output type.
            InvalidRequest: the vendor does not take this order of messages.
        """
        try:
            dropped = unsupported(request, self.profiles)
            written = self.write(request, schema, self._compile(schema), dropped)
        except InvalidRequest as error:
            raise error.having(_signed(error.info, self._whose(request.model), Fault.BAD_REQUEST)) from None
        body = json.dumps(written, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        return PreparedCall(
            provider=self._name,
            endpoint=self._http.endpoint,
            key_id=self._key_id,
            model=request.model,
            path=self.path,
            body=body,
            prompt_sha256=hashlib.sha256(body).hexdigest(),
            adapter=self.adapter,
            dropped=tuple(sorted(dropped)),
        )

    async def send(self, call: PreparedCall, *, timeout: float) -> ProviderAnswer:
        """Make one attempt.

        Raises:
            ProviderError: no usable answer; ``info.fault`` tells why.
            InvalidRequest: the vendor refuses the request as such.
        """
        whose = self._whose(call.model)
        try:
            reply = await self._http.post(
                call.path, body=call.body, headers=self._headers, timeout=timeout, fresh_token=call.fresh_token
            )
            return self._answer(reply, whose)
        except LLMGatewayError as error:
            failure = error.having(_signed(error.info, whose))
        # The frames it came through hold what the vendor sent.
        raise failure.with_traceback(None)

    def serves(self, call: PreparedCall, served_model: str) -> bool:
        """Whether *served_model* is the model asked for, or a dated snapshot of it."""
        return is_snapshot(served_model, of=call.model)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _whose(self, model: str) -> ErrorInfo:
        return ErrorInfo(provider=self._name, endpoint=self.endpoint, model=model, key_id=self._key_id)

    def _compile(self, schema: OutputSchema) -> JsonValue:
        if schema.json_schema is None:
            return None
        # Kept by identity together with the schema itself, so that an id cannot be taken over by another one.
        known = self._compiled.get(id(schema.json_schema))
        if known is not None and known[0] is schema.json_schema:
            return known[1]
        compiled = compile_schema(schema.json_schema, self.rules)
        if len(self._compiled) >= REMEMBERED_SCHEMAS:
            self._compiled.clear()
        self._compiled[id(schema.json_schema)] = (schema.json_schema, compiled)
        return compiled

    def _answer(self, reply: HttpReply, whose: ErrorInfo) -> ProviderAnswer:
        # It stands in messages and logs, so it is an id or nothing.
        found = REQUEST_ID.fullmatch(reply.headers.get(self.request_id_header, ""))
        request_id = found.group() if found is not None else None
        body = _parsed(reply, request_id)
        if reply.status != OK or object_at(body, "error"):
            text = reply.body.decode("utf-8", errors="replace")
            refusal = Refusal(
                status=reply.status,
                headers=reply.headers,
                body=body,
                text=text,
                request_id=request_id,
                at=reply.received_at,
            )
            raise refused(refusal, whose)
        reading = self.read(body, request_id)
        return ProviderAnswer(
            text=reading.text,
            finish_reason=reading.finish_reason,
            usage=reading.usage,
            served_model=reading.served_model,
            response_id=reading.response_id,
            provider_request_id=reading.provider_request_id,
            created=reading.created_at,
            system_fingerprint=reading.system_fingerprint,
            usage_counted=reading.usage_counted,
            headers=reply.headers,
            sent_at=reply.sent_at,
            first_byte_at=reply.first_byte_at,
            received_at=reply.received_at,
        )


def _checked(api_key: SecretStr, name: str) -> str:
    try:
        return validate_key(api_key.get_secret_value(), what=f"The API key of {name}")
    except ConfigurationError as error:
        failure = error
    # The frames of the check hold the key.
    raise failure.with_traceback(None)


def _parsed(reply: HttpReply, request_id: str | None) -> JsonValue:
    try:
        body = strictjson.loads(reply.body)
        if SURROGATE in reply.body.lower():
            # Half of a pair, which JSON can spell, is no text: nothing could digest or store it.
            json.dumps(body, ensure_ascii=False).encode()
    except strictjson.NotJson as error:
        reason = f"is not JSON: {error}"
    except UnicodeEncodeError:
        reason = "has half of a character"
    else:
        return body
    if reply.status == OK:
        refuse_reading(reason, request_id)
    # What stands in place of a refusal may be a proxy's page; its status still tells enough.
    return None


def _signed(info: ErrorInfo, whose: ErrorInfo, fault: Fault | None = None) -> ErrorInfo:
    return replace(
        info,
        fault=info.fault or fault,
        provider=whose.provider,
        endpoint=whose.endpoint,
        model=whose.model,
        key_id=whose.key_id,
    )
