"""What the errors of the HTTP libraries mean to a caller, as one table."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

import aiohttp
import httpx

from llm_gateway._facts import Fault
from llm_gateway._io._exchange import BrokenContentError, Exchange, OversizeError
from llm_gateway.errors import (
    InvalidRequest,
    LLMGatewayError,
    MalformedResponse,
    ProviderError,
    ProviderUnavailable,
    ResponseTooLarge,
)

__all__ = ["BEFORE_SENDING", "FAILURES", "FAULTS", "fault_of", "origin_of"]

BEFORE_SENDING: Final = frozenset({Fault.CONNECT, Fault.TLS, Fault.LOCAL_BUSY})

FAILURES: Final[Mapping[Fault, tuple[type[LLMGatewayError], str]]] = {
    Fault.CONNECT: (ProviderUnavailable, "No connection could be made."),
    Fault.TLS: (ProviderUnavailable, "The certificate of the endpoint is not trusted."),
    Fault.LOCAL_BUSY: (ProviderUnavailable, "All connections allowed to the endpoint were in use."),
    Fault.STALE_CONNECTION: (ProviderUnavailable, "A kept connection was closed before a reply began."),
    Fault.DISCONNECTED: (ProviderUnavailable, "The connection was lost before a reply began."),
    Fault.READ_TIMEOUT: (ProviderUnavailable, "No complete reply came in time."),
    Fault.MALFORMED: (MalformedResponse, "The reply is cut or is not HTTP."),
    Fault.RESPONSE_TOO_LARGE: (ResponseTooLarge, "The decoded reply exceeds the limit."),
    Fault.BAD_REQUEST: (InvalidRequest, "The request cannot be sent as HTTP."),
    Fault.UNKNOWN: (ProviderError, "The transport failed in an unforeseen way."),
}

# The first class that fits decides. The pool's own errors come first; httpx_aiohttp keeps them as the cause of what
# it raises, which is coarser: a reset would be a ConnectTimeout. The httpx ones are of transports passed in.
FAULTS: Final[tuple[tuple[type[Exception], Fault], ...]] = (
    (OversizeError, Fault.RESPONSE_TOO_LARGE),
    (BrokenContentError, Fault.MALFORMED),
    (zlib.error, Fault.MALFORMED),
    (aiohttp.ClientConnectorCertificateError, Fault.TLS),
    (aiohttp.ClientConnectorError, Fault.CONNECT),
    (aiohttp.ServerTimeoutError, Fault.CONNECT),
    (aiohttp.ClientPayloadError, Fault.MALFORMED),
    (aiohttp.ClientResponseError, Fault.MALFORMED),
    (aiohttp.ClientConnectionError, Fault.DISCONNECTED),
    (httpx.PoolTimeout, Fault.LOCAL_BUSY),
    (httpx.ConnectTimeout, Fault.CONNECT),
    (httpx.ConnectError, Fault.CONNECT),
    (httpx.TimeoutException, Fault.READ_TIMEOUT),
    (httpx.NetworkError, Fault.DISCONNECTED),
    (httpx.RemoteProtocolError, Fault.MALFORMED),
    (httpx.LocalProtocolError, Fault.BAD_REQUEST),
    (httpx.UnsupportedProtocol, Fault.BAD_REQUEST),
    (TimeoutError, Fault.READ_TIMEOUT),
)


def origin_of(error: Exception) -> Exception:
    """Return the pool's own error behind one of httpx."""
    cause = error.__cause__
    return cause if isinstance(cause, aiohttp.ClientError) else error


def fault_of(origin: Exception, exchange: Exchange) -> Fault:
    """Tell which fault ended *exchange* with *origin*."""
    fault = next((fault for kind, fault in FAULTS if isinstance(origin, kind)), Fault.UNKNOWN)
    if exchange.queued and fault in {Fault.CONNECT, Fault.READ_TIMEOUT}:
        return Fault.LOCAL_BUSY
    if fault is not Fault.DISCONNECTED:
        return fault
    # Three cases: the reply had begun, then what there is of it is never used; the provider closed a kept connection
    # just as it was taken, which says nothing about its health; or it hung up on a request it had only just accepted.
    begun = exchange.first_byte_at is not None
    if begun or (isinstance(origin, aiohttp.ServerDisconnectedError) and not isinstance(origin.args[0], str)):
        return Fault.MALFORMED
    return Fault.STALE_CONNECTION if exchange.reused else Fault.DISCONNECTED
