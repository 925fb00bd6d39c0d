from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from tests.io.fault_server import FaultServer, Peer, Script, answer, reply

from llm_gateway._facts import Fault, Sent
from llm_gateway._io._pool import tls_context
from llm_gateway._io.http import HttpClient
from llm_gateway.errors import ProviderUnavailable
from llm_gateway.options import HttpOptions

QUICK = HttpOptions(connect_timeout=0.3)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert(name).private_key_and_cert_chain_pem.tempfile() as path:
        context.load_cert_chain(path)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    return context


async def fault_at(base_url: str, *, verify: ssl.SSLContext | None = None) -> tuple[Fault | None, Sent]:
    client = HttpClient(base_url, verify=verify, options=QUICK)
    with pytest.raises(ProviderUnavailable) as caught:
        await client.post("/chat", body=b"{}", headers={}, timeout=10.0)
    await client.aclose()
    return caught.value.fault, caught.value.info.sent


async def test_trusted_certificate(authority: trustme.CA) -> None:
    """A context that was passed in decides whom to trust."""
    async with FaultServer(answer(reply()), tls=serving(authority, "localhost")) as server:
        client = HttpClient(server.url, verify=trusting(authority))
        result = await client.post("/chat", body=b"{}", headers={}, timeout=10.0)
        await client.aclose()

    assert result.status == 200


async def test_untrusted_certificate_whatever_the_environment(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An unknown authority is refused though the environment trusts it, and no session keys are written."""
    bundle, keys = tmp_path / "ca.pem", tmp_path / "keys"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    async with FaultServer(answer(reply()), tls=serving(authority, "localhost")) as server:
        assert await fault_at(server.url) == (Fault.TLS, Sent.NO)

    assert not keys.exists()


async def test_certificate_of_another_host(authority: trustme.CA) -> None:
    """A trusted certificate for another name is refused."""
    async with FaultServer(answer(reply()), tls=serving(authority, "other.example")) as server:
        assert await fault_at(server.url, verify=trusting(authority)) == (Fault.TLS, Sent.NO)


def test_default_context_is_strict() -> None:
    """The default context verifies chain and host name and speaks TLS 1.2 and newer only."""
    context = tls_context(needed=True)

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.cert_store_stats()["x509_ca"] > 50


async def hang(peer: Peer) -> None:
    await peer.gone()


async def talk_plain(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("script", [hang, talk_plain])
async def test_no_tls_at_the_port(script: Script) -> None:
    """A port that hangs in the handshake or speaks plain HTTP is a failed connection."""
    async with FaultServer(script) as server:
        assert await fault_at(f"https://localhost:{server.port}") == (Fault.CONNECT, Sent.NO)
