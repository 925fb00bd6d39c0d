"""The way to Redis under TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from tests.queues.redis_bench import QUICK, namespace, redis_bench
from tests.queues.redis_server import RedisServer
from tests.queues.tcp_proxy import proxy_to

from llm_gateway.errors import QueueUnavailable
from llm_gateway.queues.redis import RedisQueue


def serving(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a server shows that this authority vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    return context


def written(authority: trustme.CA, folder: Path) -> Path:
    """Write the authority's certificate to a file."""
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


async def test_trusted_server_is_used(redis: RedisServer, tmp_path: Path) -> None:
    """A server whose authority the URL names is used, encrypted."""
    authority = trustme.CA()
    async with proxy_to(redis.port, serving(authority)) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={written(authority, tmp_path)}"
        async with redis_bench(url) as b:
            await b.complete(await b.take())
            assert 0 == (await b.queue.stats()).depth


async def test_untrusted_server_gets_nothing(redis: RedisServer, tmp_path: Path) -> None:
    """A server that another authority vouches for is refused before anything is sent to it."""
    async with proxy_to(redis.port, serving(trustme.CA())) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0?ssl_ca_certs={written(trustme.CA(), tmp_path)}"
        queue = RedisQueue(url, namespace=namespace(), redis=QUICK, strict=False)
        with pytest.raises(QueueUnavailable):
            await queue.start(outbox=False)
