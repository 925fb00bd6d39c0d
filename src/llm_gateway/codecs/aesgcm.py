"""Payloads sealed with AES-256-GCM: a data key for each, wrapped by the tenant's key, wrapped by a configured key.

Needs the extra ``sealed``; without it, importing this module is a `MissingDependencyError` that says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio.to_thread
from pydantic import SecretStr

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._null import SystemClock
from llm_gateway.errors import DurabilityUnknown, MissingDependencyError, QueueError, QueueUnavailable, UnknownKey
from llm_gateway.protocols import Clock, KeyStore, PayloadCodec

try:
    from llm_gateway.codecs._envelope import Place, seal, unseal
    from llm_gateway.codecs._keyring import Keyring, TenantKey, new_tenant_key
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "cryptography":
        raise
    message = "Sealing the queue needs cryptography."
    raise MissingDependencyError(message, next_step="Run: pip install 'llm-gateway[sealed]'") from None

__all__ = ["KEY_SECONDS", "AesGcmCodec"]

# How long a tenant's key is known without asking the store: after that long at most, a dropped one is gone here too.
KEY_SECONDS: Final = 10.0
KNOWN_KEYS: Final = 1024
# What is larger is sealed in a thread, so that the loop goes on.
INLINE_BYTES: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """A tenant's key in memory, and the monotonic time until which the store need not be asked."""

    key: TenantKey = field(repr=False)
    until: float


class AesGcmCodec(PayloadCodec):
    """Seals what the queue stores, so that it opens only with a configured key, at its own ticket.

    Tenants' keys are known for 10 s at a time, 1024 of them at most: so long after another process shredded one,
    this one may still seal and open with it.

    Args:
        keys: Base64 of 32 bytes each, newest first. The newest wraps tenants' keys; what the others wrapped is
            wrapped anew when it is read.
        store: Where tenants' keys are kept; the queue itself is one.
        clock: Time; the machine's own by default.

    Raises:
        ConfigurationError: there is no key, or one of them is not the base64 of 32 bytes.
    """

    def __init__(self, keys: Sequence[str | SecretStr], store: KeyStore, *, clock: Clock | None = None) -> None:
        self._keyring = Keyring(keys)
        self._store = store
        self._clock = clock or SystemClock()
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._shredded = 0

    def __repr__(self) -> str:
        return f"<AesGcmCodec {self._keyring!r}>"

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    @property
    def sealed(self) -> bool:
        """True."""
        return True

    async def seal(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Seal *data* for its ticket; the tenant gets a key if it has none.

        Raises:
            UnknownKey: the tenant's key is wrapped by a key that is not here.
            QueueUnavailable: the store of keys cannot be reached.
            QueueError: the tenant's key is damaged.
        """
        key = (await self._key_or_new(tenant)).secret
        return await computed(lambda: seal(data, key, Place(tenant, ticket_id, kind)), len(data))

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Undo `seal`.

        Raises:
            QueueError: the bytes were changed or belong elsewhere, or the tenant's key was dropped or is damaged.
            UnknownKey: the tenant's key is wrapped by a key that is not here.
            QueueUnavailable: the store of keys cannot be reached.
        """
        place, key = Place(tenant, ticket_id, kind), await self._key(tenant)
        try:
            return await unsealed(data, key, place)
        except QueueError:
            # The key that is known here may have been dropped, and another one made since: a sound request must not
            # be given up for that.
            latest = await self._key(tenant, anew=True)
            if latest == key:
                raise
        return await unsealed(data, latest, place)

    async def digest(self, data: bytes, *, tenant: str) -> str:
        """Return the HMAC-SHA-256 of *data* under the tenant's key, which rotating the configured keys leaves alone.

        Raises:
            UnknownKey: the tenant's key is wrapped by a key that is not here.
            QueueUnavailable: the store of keys cannot be reached.
            QueueError: the tenant's key is damaged.
        """
        return (await self._key_or_new(tenant)).digest(data)

    async def shred(self, tenant: str) -> bool:
        """Drop the tenant's key, here at once and in other processes within 10 s; True when there was one.

        Raises:
            QueueUnavailable: the store of keys cannot be reached; the key is still there.
            DurabilityUnknown: it may have been dropped.
        """
        try:
            return await self._store.drop_tenant_key(tenant)
        finally:
            # What is being read right now was read before the drop and must not be remembered.
            self._shredded += 1
            self._known.pop(tenant, None)

    async def _key_or_new(self, tenant: str) -> TenantKey:
        key = await self._key(tenant)
        if key is not None:
            return key
        asked, shredded = self._clock.monotonic(), self._shredded
        wrapped = self._keyring.wrap(new_tenant_key(), tenant)
        try:
            # Of several that come first, all use the one that was kept.
            kept = await self._store.keep_tenant_key(tenant, wrapped)
        except DurabilityUnknown:
            kept = None
        if kept is None:
            message = "It is not known whether the tenant's key was stored."
            raise QueueUnavailable(message, next_step="Ask again; the request was not stored.")
        return self._remembered(tenant, self._keyring.unwrap(kept, tenant), asked, shredded)

    async def _key(self, tenant: str, *, anew: bool = False) -> TenantKey | None:
        known, asked, shredded = self._known.get(tenant), self._clock.monotonic(), self._shredded
        if known is not None and asked < known.until and not anew:
            return known.key
        wrapped = await self._store.tenant_key(tenant)
        if wrapped is None:
            self._known.pop(tenant, None)
            return None
        key = self._unwrapped(wrapped, tenant, known)
        if self._keyring.outdated(wrapped):
            await self._wrap_anew(wrapped, tenant, key)
        return self._remembered(tenant, key, asked, shredded)

    def _unwrapped(self, wrapped: bytes, tenant: str, known: Known | None) -> TenantKey:
        try:
            return self._keyring.unwrap(wrapped, tenant)
        except UnknownKey:
            # A process that rotates before this one has only wrapped anew the key that is known here.
            if known is None or not self._keyring.holds(wrapped, known.key):
                raise
            return known.key

    async def _wrap_anew(self, wrapped: bytes, tenant: str, key: TenantKey) -> None:
        # Where this fails the key still opens as it is, and the next read tries again.
        with suppress(QueueError):
            await self._store.keep_tenant_key(tenant, self._keyring.wrap(key, tenant), replacing=wrapped)

    def _remembered(self, tenant: str, key: TenantKey, asked: float, shredded: int) -> TenantKey:
        if shredded == self._shredded:
            self._known[tenant] = Known(key, asked + KEY_SECONDS)
            self._known.move_to_end(tenant)
            while len(self._known) > KNOWN_KEYS:
                self._known.popitem(last=False)
        return key


async def unsealed(data: bytes, key: TenantKey | None, place: Place) -> bytes:
    """Open *data* with the key of its tenant.

    Raises:
        QueueError: there is no key, or it does not open them.
    """
    if key is None:
        message = "The key of this tenant was dropped: what it sealed cannot be read any more."
        raise place.refuse(message, "Submit the request again if it is still wanted.")
    return await computed(lambda: unseal(data, key.secret, place), len(data))


async def computed(work: Callable[[], bytes], size: int) -> bytes:
    """Do *work* at once, or in a thread when it is about many bytes."""
    return await anyio.to_thread.run_sync(work) if size > INLINE_BYTES else work()
