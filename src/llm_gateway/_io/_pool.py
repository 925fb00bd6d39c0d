"""The connections: aiohttp's pool under an httpx transport, deaf to the environment."""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import aiohttp
import certifi
from httpx_aiohttp import AiohttpTransport

from llm_gateway._io._exchange import CURRENT
from llm_gateway.options import HttpOptions

__all__ = ["pool", "tls_context"]


def tls_context(*, needed: bool) -> ssl.SSLContext:
    """Make the default context; one that is not *needed* trusts nobody, which saves loading the authorities."""
    # Not create_default_context, which obeys SSL_CERT_FILE and SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if needed:
        context.load_verify_locations(cafile=certifi.where())
    return context


def pool(options: HttpOptions, context: ssl.SSLContext) -> AiohttpTransport:
    """Make a transport whose connections open in the event loop of the first request."""

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=options.max_connections, keepalive_timeout=options.keepalive, ssl=context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_traces()],
            trust_env=False,
        )

    return AiohttpTransport(verify=context, trust_env=False, client=session)


def _traces() -> aiohttp.TraceConfig:
    async def queued(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
        CURRENT.get().queued = True

    async def unqueued(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
        CURRENT.get().queued = False

    async def reused(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: object) -> None:
        CURRENT.get().reused = True

    config = aiohttp.TraceConfig()
    config.on_connection_queued_start.append(queued)
    config.on_connection_queued_end.append(unqueued)
    config.on_connection_reuseconn.append(reused)
    return config
