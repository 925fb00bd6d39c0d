"""The configured keys, and how they wrap the keys of tenants."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from llm_gateway.codecs._framing import framed
from llm_gateway.errors import ConfigurationError, QueueError, UnknownKey

__all__ = ["Keyring", "TenantKey", "new_tenant_key"]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
NAME_BYTES: Final = 8
# A wrapped key: mark with format version, name of the key that wraps it, its own name, nonce, what is encrypted.
MARK: Final = b"LGK\x01"
NAMED: Final = len(MARK) + NAME_BYTES
OPEN: Final = NAMED + NAME_BYTES
HEADER: Final = OPEN + NONCE_BYTES
LENGTH: Final = HEADER + KEY_BYTES + 16
HOW_TO_MAKE: Final = 'Make one: python -c "import base64, os; print(base64.b64encode(os.urandom(32)).decode())"'


@dataclass(frozen=True, slots=True)
class TenantKey:
    """The key under which everything of one tenant is sealed.

    Attributes:
        secret: 32 random bytes that wrap the data keys.
    """

    secret: bytes = field(repr=False)

    @property
    def name(self) -> bytes:
        """What tells it from other keys without showing it."""
        return self._derived(b"llm_gateway name")[:NAME_BYTES]

    def digest(self, data: bytes) -> str:
        """Return the HMAC-SHA-256 of *data*, under a key of its own that this one gives."""
        return hmac.new(self._derived(b"llm_gateway digest"), data, hashlib.sha256).hexdigest()

    def _derived(self, purpose: bytes) -> bytes:
        return hmac.digest(self.secret, purpose, "sha256")


class Keyring:
    """The configured keys.

    A tenant's key is wrapped with AES-GCM, which binds it to its tenant: one key per tenant keeps the number of
    random nonces far below what they allow.

    Args:
        keys: Base64 of 32 bytes each, newest first. The newest wraps, the others only unwrap.

    Raises:
        ConfigurationError: there is none, or one of them is no such key.
    """

    def __init__(self, keys: Sequence[str | SecretStr]) -> None:
        if not keys:
            message = "Sealing needs at least one key."
            raise ConfigurationError(message, next_step=HOW_TO_MAKE)
        secrets = [read_key(key, place) for place, key in enumerate(keys, 1)]
        self._keys = {name_of(secret): AESGCM(secret) for secret in secrets}
        self._newest = name_of(secrets[0])

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def wrap(self, key: TenantKey, tenant: str) -> bytes:
        """Wrap a tenant's key with the newest key."""
        nonce = os.urandom(NONCE_BYTES)
        head = MARK + self._newest + key.name + nonce
        return head + self._keys[self._newest].encrypt(nonce, key.secret, framed(head, tenant))

    def unwrap(self, wrapped: bytes, tenant: str) -> TenantKey:
        """Undo `wrap`.

        Raises:
            UnknownKey: the key that wrapped it is not here.
            QueueError: it is damaged, or another tenant's.
        """
        head, name = wrapped[:HEADER], wrapped[len(MARK) : NAMED]
        if not head.startswith(MARK) or len(wrapped) != LENGTH:
            message = "The stored key of the tenant is damaged or of a newer format."
            raise QueueError(message, next_step="Use the release that stored it, or restore it from a backup.")
        if name not in self._keys:
            message = f"The tenant's key is wrapped by the key {name.hex()}, which this process was not given."
            raise UnknownKey(message)
        try:
            return TenantKey(self._keys[name].decrypt(head[OPEN:], wrapped[HEADER:], framed(head, tenant)))
        except InvalidTag:
            message = "The stored key of the tenant was changed or is another tenant's."
        raise QueueError(message, next_step="Restore it from a backup, or erase everything of the tenant.")

    def outdated(self, wrapped: bytes) -> bool:
        """Whether a wrapped key was wrapped by a key that is here, but not the newest."""
        name = wrapped[len(MARK) : NAMED]
        return name in self._keys and name != self._newest

    @staticmethod
    def holds(wrapped: bytes, key: TenantKey) -> bool:
        """Whether a wrapped key says that it is this one, whoever wrapped it."""
        return hmac.compare_digest(wrapped[NAMED:OPEN], key.name)


def new_tenant_key() -> TenantKey:
    """Make a random key."""
    return TenantKey(os.urandom(KEY_BYTES))


def read_key(given: str | SecretStr, place: int) -> bytes:
    """Read a configured key.

    Raises:
        ConfigurationError: it is none; the message names its place, never the key.
    """
    text = given.get_secret_value() if isinstance(given, SecretStr) else given
    try:
        secret = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        secret = b""
    if len(secret) == KEY_BYTES:
        return secret
    message = f"Key {place} of the queue's keys is not the base64 of {KEY_BYTES} bytes."
    raise ConfigurationError(message, next_step=HOW_TO_MAKE)


def name_of(secret: bytes) -> bytes:
    """Return what tells a configured key from others without showing it."""
    return hmac.digest(secret, b"llm_gateway key", "sha256")[:NAME_BYTES]
