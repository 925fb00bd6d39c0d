from __future__ import annotations

import logging
import traceback

import httpx
import pytest
import respx
from tests.io.fault_server import FaultServer, Peer, answer, reply

from llm_gateway._facts import Fault, Sent
from llm_gateway._io.http import HttpClient, key_id, validate_key
from llm_gateway.errors import (
    ConfigurationError,
    InvalidRequest,
    LLMGatewayError,
    MalformedResponse,
    ProviderError,
    ProviderUnavailable,
)

KEY = "sk-canary-4711"
PROMPT = b"an essay by a pupil"
BASE = "https://api.example.com/v1"


def refusing(error: Exception) -> httpx.MockTransport:
    def respond(request: httpx.Request) -> httpx.Response:
        raise error

    return httpx.MockTransport(respond)


@pytest.mark.parametrize(
    ("base_url", "endpoint"),
    [
        ("https://API.example.com/v1/", "api.example.com"),
        ("https://api.example.com:443", "api.example.com"),
        ("https://api.example.com:8443", "api.example.com:8443"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://127.9.9.9", "127.9.9.9"),
        ("http://localhost:1234/v1", "localhost:1234"),
        ("http://[::1]:1234", "[::1]:1234"),
    ],
)
def test_base_url_gives_the_endpoint(base_url: str, endpoint: str) -> None:
    """An origin with https, or a loopback host with http, is accepted and named by host and port."""
    client = HttpClient(base_url)

    assert (client.endpoint, repr(client)) == (endpoint, f"<HttpClient {endpoint}>")


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example.com",
        "ftp://api.example.com",
        "https://",
        "https:///v1",
        "https://user:canary@api.example.com",
        "https://canary@api.example.com",
        "https://api.example.com/v1?key=canary",
        "https://api.example.com/v1#canary",
        "https://api.example.com\\@canary.example",
        "https://api.example.com/ canary",
        "https://api.example.com:canary",
        "https://api.example.com:99999999/canary",
        "https://bücher.example/canary",
        "http://api.example.com/canary",
        "http://127.1/canary",
        "http://2130706433/canary",
        "http://0.0.0.0/canary",
        "http://localhost.example.com/canary",
        "http://10.0.0.1/canary",
    ],
)
def test_base_url_is_refused_without_being_shown(base_url: str) -> None:
    """A base URL with a user, query or fragment, or http to another host, is an error that does not quote it."""
    with pytest.raises(ConfigurationError) as caught:
        HttpClient(base_url)

    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "secret", ["", "canary\n", "can ary", "canary\r\nX-Evil: 1", "canaryé", "canary\x00", "\tcanary"]
)
def test_bad_keys_are_refused_without_being_shown(secret: str) -> None:
    """A key that cannot stand in a header is an error that names the setting and not the key."""
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY") as caught:
        validate_key(secret, what="OPENAI_API_KEY")

    assert "canary" not in str(caught.value)


def test_good_key_is_returned() -> None:
    """A key of visible ASCII comes back as it is."""
    assert validate_key(KEY, what="key") == KEY


def test_key_id_tells_keys_apart() -> None:
    """A key id is short, stable, and another for another key."""
    assert key_id(KEY) == key_id(KEY)
    assert key_id(KEY) != key_id(KEY + "x")
    assert (len(key_id(KEY)), KEY[:6] in key_id(KEY)) == (12, False)


async def sent_by(base_path: str = "", *, path: str = "/chat", fresh_token: str | None = None) -> list[str]:
    """Return the lines of the head of two requests, the second on the connection of the first."""
    heads: list[str] = []

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            heads.append(request.partition(b"\r\n\r\n")[0].decode())
            await peer.send(reply(headers="Set-Cookie: a=b; Path=/\r\n"))

    async with FaultServer(script) as server:
        client = HttpClient(server.url + base_path)
        headers = {"Authorization": f"Bearer {KEY}", "Cache-Control": "max-age=60"}
        for _ in range(2):
            await client.post(path, body=PROMPT, headers=headers, timeout=10.0, fresh_token=fresh_token)
        await client.aclose()
    assert heads[0] == heads[1]
    return heads[0].lower().split("\r\n")


async def test_request_forbids_storing() -> None:
    """Every request says that nothing may be stored, whatever the adapter says, and carries no cookie."""
    lines = await sent_by("/v1/")

    assert lines[0] == "post /v1/chat http/1.1"
    assert [line for line in lines if line.startswith("cache-control")] == ["cache-control: no-store, no-cache"]
    assert {f"authorization: bearer {KEY}", f"content-length: {len(PROMPT)}", "accept-encoding: gzip"} <= set(lines)
    assert [line for line in lines if line.startswith(("cookie", "pragma"))] == []


@pytest.mark.parametrize(("path", "target"), [("/chat", "/chat?"), ("/chat?v=1", "/chat?v=1&")])
async def test_fresh_token_goes_past_caches(path: str, target: str) -> None:
    """A fresh token makes the URL a new one and asks caches to step aside."""
    lines = await sent_by(path=path, fresh_token="abc123")

    assert lines[0] == f"post {target}llm-gateway-fresh=abc123 http/1.1"
    assert {"cache-control: no-cache, no-store, max-age=0", "pragma: no-cache"} <= set(lines)


@pytest.mark.parametrize(
    ("path", "headers", "token"),
    [
        ("chat", {}, None),
        ("//evil.example\r\n", {}, None),
        ("/a b", {}, None),
        ("/a#canary", {}, None),
        ("/a/../canary", {}, None),
        ("/modèle", {}, None),
        ("/chat", {"X-A": "canary\r\nX-Evil: 1"}, None),
        ("/chat", {"X-A": "canary\n"}, None),
        ("/chat", {"X-A": "canaré"}, None),
        ("/chat", {"X A": "canary"}, None),
        ("/chat", {"": "canary"}, None),
        ("/chat", {"Host": "canary.example"}, None),
        ("/chat", {"Content-Length": "1"}, None),
        ("/chat", {"Transfer-Encoding": "chunked"}, None),
        ("/chat", {}, "canary&x=1"),
    ],
)
async def test_what_cannot_be_sent_never_leaves(path: str, headers: dict[str, str], token: str | None) -> None:
    """A path, header or token that would break the request is refused before anything is sent, and not shown."""
    async with FaultServer(answer(reply())) as server:
        client = HttpClient(server.url)
        with pytest.raises(InvalidRequest) as caught:
            await client.post(path, body=PROMPT, headers=headers, timeout=10.0, fresh_token=token)
        await client.aclose()

    assert (caught.value.fault, caught.value.info.sent, server.connections) == (Fault.BAD_REQUEST, Sent.NO, 0)
    assert "canar" not in str(caught.value)


async def test_two_slashes_stay_at_the_origin() -> None:
    """A path that begins with two slashes does not name another host."""
    async with FaultServer(answer(reply())) as server:
        client = HttpClient(server.url)
        assert (await client.post("//evil.example/x", body=PROMPT, headers={}, timeout=10.0)).status == 200
        await client.aclose()


async def test_environment_is_not_obeyed(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither proxies nor netrc of the environment change where a request goes or what it carries."""
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password canary\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(reply())

    async with FaultServer(script) as server:
        client = HttpClient(server.url)
        await client.post("/chat", body=PROMPT, headers={}, timeout=10.0)
        await client.aclose()

    assert b"authorization" not in seen[0].lower()


async def test_secrets_show_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither key nor prompt shows in an error, its chain, its traceback with locals, or a log at DEBUG."""
    shown: list[str] = []

    async def hang_up(peer: Peer) -> None:
        await peer.request()

    caplog.set_level(logging.DEBUG)
    for script in (answer(reply()), hang_up, answer(b"HTTP/1.1 9999\r\n\r\n"), answer(reply(b"{", length=9))):
        async with FaultServer(script) as server:
            client = HttpClient(server.url)
            try:
                await client.post("/chat", body=PROMPT, headers={"x-api-key": KEY}, timeout=0.3)
            except LLMGatewayError as error:
                shown.append(repr(error.__context__))
                trace = traceback.TracebackException.from_exception(error, capture_locals=True)
                shown += [str(error), repr(error), repr(error.info), *trace.format()]
            await client.aclose()

    everything = "".join(shown) + caplog.text
    assert len(shown) > 3
    assert [secret for secret in (KEY, PROMPT.decode()) if secret in everything] == []


@pytest.mark.parametrize(
    ("error", "kind", "fault", "sent"),
    [
        (httpx.PoolTimeout("x"), ProviderUnavailable, Fault.LOCAL_BUSY, Sent.NO),
        (httpx.ConnectTimeout("x"), ProviderUnavailable, Fault.CONNECT, Sent.NO),
        (httpx.ConnectError("x"), ProviderUnavailable, Fault.CONNECT, Sent.NO),
        (httpx.ReadTimeout("x"), ProviderUnavailable, Fault.READ_TIMEOUT, Sent.YES),
        (httpx.WriteTimeout("x"), ProviderUnavailable, Fault.READ_TIMEOUT, Sent.YES),
        (httpx.ReadError("x"), ProviderUnavailable, Fault.DISCONNECTED, Sent.YES),
        (httpx.RemoteProtocolError("x"), MalformedResponse, Fault.MALFORMED, Sent.YES),
        (httpx.LocalProtocolError("x"), InvalidRequest, Fault.BAD_REQUEST, Sent.YES),
        (httpx.UnsupportedProtocol("x"), InvalidRequest, Fault.BAD_REQUEST, Sent.YES),
        (RuntimeError("canary"), ProviderError, Fault.UNKNOWN, Sent.YES),
    ],
)
async def test_faults_of_other_transports(
    error: Exception, kind: type[LLMGatewayError], fault: Fault, sent: Sent
) -> None:
    """A transport that was passed in has its errors told apart too; what nobody foresaw is unknown."""
    client = HttpClient(BASE, transport=refusing(error))
    with pytest.raises(kind) as caught:
        await client.post("/chat", body=PROMPT, headers={}, timeout=10.0)
    await client.aclose()

    assert (caught.value.fault, caught.value.info.sent) == (fault, sent)
    assert "canary" not in str(caught.value)


async def test_respx_can_stand_in() -> None:
    """A respx router works as the transport."""
    router = respx.MockRouter()
    route = router.post(f"{BASE}/chat").respond(201, json={"a": 1})
    client = HttpClient(BASE, transport=httpx.MockTransport(router.async_handler))
    result = await client.post("/chat", body=PROMPT, headers={}, timeout=10.0)
    await client.aclose()

    assert (result.status, result.body) == (201, b'{"a":1}')
    assert route.calls.last.request.content == PROMPT
