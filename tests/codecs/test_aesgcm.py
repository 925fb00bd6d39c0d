"""The hierarchy of keys: rotated, shredded, agreed on, and never shown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

import pytest
from pydantic import SecretStr
from tests.codecs.stores import NEW, OLD, TICKET, ShakyQueue, opened, sealed

from llm_gateway._core.environments import EVERYWHERE
from llm_gateway.codecs.aesgcm import KEY_SECONDS, KNOWN_KEYS, AesGcmCodec
from llm_gateway.errors import ConfigurationError, DurabilityUnknown, QueueError, QueueUnavailable, UnknownKey
from llm_gateway.testing import FakeClock


def codec(queue: ShakyQueue, *keys: str, clock: FakeClock | None = None) -> AesGcmCodec:
    """Make a codec as another process would, with nothing in memory."""
    return AesGcmCodec(keys or [NEW], queue, clock=clock)


async def test_round_trip() -> None:
    """What is sealed opens in another process, and cannot be read without a key."""
    queue = ShakyQueue()
    blob = await sealed(codec(queue), b"an essay")
    assert b"an essay" == await opened(codec(queue), blob)
    assert b"essay" not in blob
    assert (True, EVERYWHERE) == (codec(queue).sealed, codec(queue).allowed_in)


@pytest.mark.parametrize(("tenant", "ticket", "kind"), [("b", TICKET, "k"), ("a", "t", "k"), ("a", TICKET, "other")])
async def test_moved(tenant: str, ticket: str, kind: str) -> None:
    """What was moved to another tenant, ticket or kind is refused."""
    ours = codec(ShakyQueue())
    blob = await ours.seal(b"an essay", tenant="a", ticket_id=TICKET, kind="k")
    await ours.seal(b"another", tenant="b", ticket_id=TICKET, kind="k")
    with pytest.raises(QueueError, match="changed, belong elsewhere"):
        await ours.open(blob, tenant=tenant, ticket_id=ticket, kind=kind)


async def test_moved_with_its_key() -> None:
    """A tenant's key that was copied to another tenant is refused."""
    queue = ShakyQueue()
    blob = await sealed(codec(queue), b"an essay", "a")
    await queue.keep_tenant_key("b", await queue.tenant_key("a") or b"")
    with pytest.raises(QueueError, match="another tenant's"):
        await opened(codec(queue), blob, "b")


async def test_rotation() -> None:
    """A key put first wraps tenants' keys anew when they are read, and then the old one can go."""
    queue = ShakyQueue()
    before = codec(queue, OLD)
    blob, digest = await sealed(before, b"an essay"), await before.digest(b"x", tenant="a")
    assert b"an essay" == await opened(codec(queue, NEW, OLD), blob)
    after = codec(queue, NEW)
    assert (b"an essay", digest) == (await opened(after, blob), await after.digest(b"x", tenant="a"))
    with pytest.raises(UnknownKey):
        await opened(codec(queue, OLD), blob)


async def test_rotation_without_reading() -> None:
    """A tenant's key that was not read while both keys were there needs the old one still."""
    queue = ShakyQueue()
    blob = await sealed(codec(queue, OLD), b"an essay")
    with pytest.raises(UnknownKey) as caught:
        await opened(codec(queue, NEW), blob)
    assert "LLM_GATEWAY_QUEUE_KEYS" in caught.value.next_step
    with pytest.raises(UnknownKey):
        await sealed(codec(queue, NEW), b"another")
    assert b"an essay" == await opened(codec(queue, NEW, OLD), blob)


async def test_process_that_is_behind_in_a_rotation() -> None:
    """A process that knows a tenant's key goes on when another wraps it under a key it lacks, and undoes nothing."""
    queue, clock = ShakyQueue(), FakeClock()
    behind = codec(queue, OLD, clock=clock)
    blob = await sealed(behind, b"an essay")
    await opened(codec(queue, NEW, OLD), blob)
    wrapped = await queue.tenant_key("a")
    for _ in range(3):
        clock.advance(KEY_SECONDS)
        assert b"an essay" == await opened(behind, blob)
        assert b"more" == await opened(codec(queue, NEW), await sealed(behind, b"more"))
    assert wrapped == await queue.tenant_key("a")


async def test_process_that_is_behind_does_not_mistake_a_new_key() -> None:
    """A tenant's key that is really another one is not taken for the one known here."""
    queue, clock = ShakyQueue(), FakeClock()
    behind = codec(queue, OLD, clock=clock)
    await sealed(behind, b"an essay")
    await queue.drop_tenant_key("a")
    await sealed(codec(queue, NEW), b"anew")
    clock.advance(KEY_SECONDS)
    with pytest.raises(UnknownKey):
        await sealed(behind, b"more")


async def test_wrapping_anew_may_fail() -> None:
    """A key that cannot be wrapped anew now opens all the same, and is wrapped anew at the next reading."""
    queue, clock = ShakyQueue(), FakeClock()
    blob = await sealed(codec(queue, OLD), b"an essay")
    both = codec(queue, NEW, OLD, clock=clock)
    queue.failures["keep_tenant_key"] = [DurabilityUnknown("Perhaps.")]
    assert b"an essay" == await opened(both, blob)
    clock.advance(KEY_SECONDS)
    await opened(both, blob)
    assert b"an essay" == await opened(codec(queue, NEW), blob)


async def test_shredding() -> None:
    """What was sealed under a shredded key opens nowhere: here at once, elsewhere within 10 s, whatever key follows."""
    queue, clock = ShakyQueue(), FakeClock()
    here, elsewhere = codec(queue, clock=clock), codec(queue, clock=clock)
    blob, other = await sealed(here, b"an essay"), await sealed(here, b"another's", "b")
    await opened(elsewhere, blob)
    assert (True, False) == (await here.shred("a"), await here.shred("a"))
    with pytest.raises(QueueError, match="dropped"):
        await opened(here, blob)
    clock.advance(10.0)
    with pytest.raises(QueueError, match="dropped"):
        await opened(elsewhere, blob)
    assert {"b"} >= set(vars(elsewhere)["_known"]), "a dropped key stays in memory"
    assert b"new" == await opened(elsewhere, await sealed(here, b"new"))
    with pytest.raises(QueueError, match="since dropped"):
        await opened(here, blob)
    assert b"another's" == await opened(here, other, "b")


async def test_successor_of_a_shredded_key() -> None:
    """What is sealed under a tenant's next key opens at once in a process that still knows the one before it."""
    queue, clock = ShakyQueue(), FakeClock()
    here, elsewhere = codec(queue, clock=clock), codec(queue, clock=clock)
    before = await sealed(elsewhere, b"an essay")
    await here.shred("a")
    blob = await sealed(here, b"new")
    assert b"new" == await opened(elsewhere, blob)
    with pytest.raises(QueueError, match="since dropped"):
        await opened(elsewhere, before)
    assert b"again" == await opened(here, await sealed(elsewhere, b"again"))


async def test_refused_under_a_known_key_while_the_store_is_away() -> None:
    """Bytes that the key in memory does not open are not given up while the store cannot say whether it still holds."""
    queue, clock = ShakyQueue(), FakeClock()
    here, elsewhere = codec(queue, clock=clock), codec(queue, clock=clock)
    await sealed(elsewhere, b"an essay")
    await here.shred("a")
    blob = await sealed(here, b"new")
    queue.failures["tenant_key"] = [QueueUnavailable("It is away.")]
    with pytest.raises(QueueUnavailable):
        await opened(elsewhere, blob)
    assert b"new" == await opened(elsewhere, blob)


async def test_shredding_while_the_key_is_read() -> None:
    """A key that is dropped while it is being read is used for what asked, and not remembered."""
    queue = ShakyQueue()
    blob = await sealed(codec(queue), b"an essay")
    ours = codec(queue)
    queue.between = partial(ours.shred, "a")
    await opened(ours, blob)
    queue.between = None
    with pytest.raises(QueueError, match="dropped"):
        await opened(ours, blob)


async def test_shredding_while_the_key_is_wrapped_anew() -> None:
    """A rotation does not bring a dropped key back."""
    queue = ShakyQueue()
    blob = await sealed(codec(queue, OLD), b"an essay")
    queue.between = partial(queue.drop_tenant_key, "a")
    await opened(codec(queue, NEW, OLD), blob)
    queue.between = None
    assert None is await queue.tenant_key("a")


async def test_first_uses_at_once_agree() -> None:
    """Processes that come first at the same time seal under one key."""
    queue = ShakyQueue()
    queue.between = partial(asyncio.sleep, 0)
    blobs = await asyncio.gather(*(sealed(codec(queue), b"essay %d" % number) for number in range(20)))
    told = [await opened(codec(queue), blob) for blob in blobs]
    assert [b"essay %d" % number for number in range(20)] == told


async def test_keys_are_known_for_a_while() -> None:
    """The store is asked once in 10 s for each tenant, whatever is sealed and opened."""
    queue, clock = ShakyQueue(), FakeClock()
    ours = codec(queue, clock=clock)
    for _ in range(3):
        await opened(ours, await sealed(ours, b"an essay"))
    assert {"tenant_key": 1, "keep_tenant_key": 1} == queue.asked
    clock.advance(10.0)
    await ours.digest(b"x", tenant="a")
    assert 2 == queue.asked["tenant_key"]


async def test_known_keys_are_bounded() -> None:
    """Only so many tenants' keys are known at once; the one used longest ago goes first."""
    queue, clock = ShakyQueue(), FakeClock()
    ours = codec(queue, clock=clock)
    for number in range(KNOWN_KEYS):
        await ours.digest(b"x", tenant=str(number))
    clock.advance(KEY_SECONDS)
    for tenant in ("0", "one more", "1", "0"):
        await ours.digest(b"x", tenant=tenant)
    # Each was read once, and once more after 10 s: "0" was not forgotten in between, as "1" was.
    assert KNOWN_KEYS + 3 == queue.asked["tenant_key"]
    assert KNOWN_KEYS == len(vars(ours)["_known"])


async def test_opening_makes_no_key() -> None:
    """What cannot be opened for want of a key does not make the tenant a new one."""
    queue = ShakyQueue()
    with pytest.raises(QueueError, match="dropped"):
        await opened(codec(queue), b"LGS")
    assert None is await queue.tenant_key("a")


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        ("tenant_key", QueueUnavailable("It is away.")),
        ("keep_tenant_key", QueueUnavailable("It is away.")),
        ("keep_tenant_key", DurabilityUnknown("Perhaps.")),
    ],
)
async def test_store_is_away(method: str, failure: Exception) -> None:
    """While the store of keys is away nothing is sealed, and the error says that asking again helps."""
    queue = ShakyQueue()
    queue.failures[method] = [failure]
    ours = codec(queue)
    with pytest.raises(QueueUnavailable):
        await sealed(ours, b"an essay")
    assert b"an essay" == await opened(codec(queue), await sealed(ours, b"an essay"))


async def test_damaged_tenant_key() -> None:
    """No byte of a tenant's key can change without an error of the queue that has a next step."""
    queue = ShakyQueue()
    blob = await sealed(codec(queue), b"an essay")
    wrapped = await queue.tenant_key("a") or b""
    damaged = [wrapped[:place] + bytes([wrapped[place] ^ 1]) + wrapped[place + 1 :] for place in range(len(wrapped))]
    for changed in [*damaged, b"", *(wrapped[:length] for length in range(len(wrapped)))]:
        await queue.keep_tenant_key("a", changed, replacing=await queue.tenant_key("a"))
        with pytest.raises(QueueError) as caught:
            await opened(codec(queue), blob)
        assert QueueError.next_step != caught.value.next_step
        assert len(wrapped) == len(changed) or not isinstance(caught.value, UnknownKey)


async def test_digest() -> None:
    """The digest is the same whenever it is asked, another for each tenant, and no plain hash."""
    queue = ShakyQueue()
    told = [await codec(queue).digest(data, tenant=tenant) for tenant in "ab" for data in (b"x", b"y", b"x")]
    assert (told[0], told[3]) == (told[2], told[5])
    assert 4 == len(set(told))
    assert hashlib.sha256(b"x").hexdigest() not in told


async def test_many_bytes_leave_the_loop_free() -> None:
    """A large payload is sealed beside the loop, not in it."""
    ours, data = codec(ShakyQueue()), os.urandom(4 * 1024 * 1024)
    await ours.digest(b"x", tenant="a")
    task = asyncio.create_task(sealed(ours, data))
    await asyncio.sleep(0)
    assert not task.done()
    assert data == await opened(ours, await task)


NO_KEYS: list[Sequence[str | SecretStr]] = [
    [],
    [""],
    ["secret-canary"],
    [base64.b64encode(b"secret-canary").decode()],
    [NEW, base64.b64encode(bytes(31)).decode()],
    [NEW, SecretStr(base64.b64encode(bytes(33)).decode())],
    ["\u00e9" * 43 + "="],
]


@pytest.mark.parametrize("keys", NO_KEYS, ids=range(len(NO_KEYS)))
def test_bad_keys(keys: Sequence[str | SecretStr]) -> None:
    """A key that is none is refused at construction by its place, with a line that makes one, and is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        AesGcmCodec(keys, ShakyQueue())
    assert "base64.b64encode(os.urandom(32))" in str(caught.value)
    assert [] == [key for key in map(str, keys) if key and key in repr(caught.value) + str(caught.value)]
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key", [NEW, SecretStr(NEW), f" {NEW}\n", NEW.replace("+", "-").replace("/", "_")])
async def test_good_keys(key: str | SecretStr) -> None:
    """A key is taken as text or secret, with blanks around it, in either alphabet of base64."""
    queue = ShakyQueue()
    assert b"x" == await opened(codec(queue), await sealed(AesGcmCodec([key], queue), b"x"))


async def test_shows_no_key() -> None:
    """Neither the codec nor what it holds shows a key."""
    ours = codec(ShakyQueue(), NEW, OLD)
    await sealed(ours, b"x")
    shown = repr(ours) + "".join(map(repr, vars(ours).values()))
    assert "<AesGcmCodec <Keyring of 2>>" in shown
    assert [] == [secret for secret in (NEW, OLD, "secret=", "\\x") if secret in shown]


def test_without_cryptography() -> None:
    """Without the extra, the error has the line that installs it."""
    program = "import sys; sys.modules['cryptography'] = None; import llm_gateway.codecs.aesgcm"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert 1 == done.returncode
    assert "MissingDependencyError" in done.stderr
    assert "pip install 'llm-gateway[sealed]'" in done.stderr
