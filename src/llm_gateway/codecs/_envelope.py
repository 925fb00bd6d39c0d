"""Sealed bytes: compressed where that pays, encrypted under a key of their own, bound to their place.

::

    "LGS" | format version | flags | wrapped data key (40 bytes) | nonce (12 bytes) | AES-256-GCM

The data key is wrapped with AES Key Wrap (RFC 3394): it takes no nonce, so the tenant's key may wrap any number of
them, where random nonces of AES-GCM would have to stop at 2**32. What it does not bind, the associated data of the
payload does: the whole header, the tenant, the ticket and the kind.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from llm_gateway.codecs._framing import framed
from llm_gateway.codecs.plain import SEALED_MARK
from llm_gateway.errors import ErrorInfo, QueueError

__all__ = ["LARGEST_INFLATED", "Place", "seal", "unseal"]

VERSION: Final = 1
PLAIN, DEFLATED = 0, 1
START: Final = len(SEALED_MARK) + 2
WRAPPED: Final = START + 40
HEADER: Final = WRAPPED + 12
TAG: Final = 16
# Below this, the checksum and tables of zlib weigh more than they save.
WORTH_DEFLATING: Final = 128
# What is larger is stored as it is, so that nothing that can be opened inflates beyond it.
LARGEST_INFLATED: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Where sealed bytes belong: they open nowhere else."""

    tenant: str
    ticket_id: str
    kind: str

    def bind(self, header: bytes) -> bytes:
        """Return the associated data."""
        return framed(header, self.tenant, self.ticket_id, self.kind)

    def refuse(self, message: str, next_step: str) -> QueueError:
        """Say that bytes do not open here."""
        return QueueError(message, next_step=next_step, info=ErrorInfo(ticket_id=self.ticket_id, code="unreadable"))


def seal(data: bytes, key: bytes, place: Place) -> bytes:
    """Seal *data* for a place under a data key of its own, which *key* wraps."""
    flags, packed = deflated(data)
    data_key, nonce = os.urandom(32), os.urandom(12)
    header = SEALED_MARK + bytes((VERSION, flags)) + aes_key_wrap(key, data_key) + nonce
    return header + AESGCM(data_key).encrypt(nonce, packed, place.bind(header))


def unseal(blob: bytes, key: bytes, place: Place) -> bytes:
    """Undo `seal`.

    Raises:
        QueueError: it was not sealed, or in another format, for another place or under another key, or was changed.
    """
    header = blob[:HEADER]
    flags = format_of(blob, place)
    try:
        data_key = aes_key_unwrap(key, header[START:WRAPPED])
        packed = AESGCM(data_key).decrypt(header[WRAPPED:], blob[HEADER:], place.bind(header))
    except (InvalidUnwrap, InvalidTag):
        packed = None
    if packed is None:
        message = "The stored bytes were changed, belong elsewhere, or were sealed under a key since dropped."
        raise place.refuse(message, "Submit the request again; restore the queue from a backup if this was damage.")
    return inflated(packed, place) if flags == DEFLATED else packed


def format_of(blob: bytes, place: Place) -> int:
    """Return the flags of sealed bytes of a format that is known.

    Raises:
        QueueError: it is not.
    """
    if not blob.startswith(SEALED_MARK) or len(blob) < HEADER + TAG:
        message = "The stored bytes are not sealed, or were cut."
        raise place.refuse(message, "What was stored before there were keys is drained without keys.")
    version, flags = blob[len(SEALED_MARK) : START]
    if version != VERSION or flags not in {PLAIN, DEFLATED}:
        message = f"The stored bytes are sealed in a format that is not known here ({version}.{flags})."
        raise place.refuse(message, "Read them with the release that sealed them.")
    return flags


def deflated(data: bytes) -> tuple[int, bytes]:
    """Compress *data* where that makes it shorter."""
    if not WORTH_DEFLATING <= len(data) <= LARGEST_INFLATED:
        return PLAIN, data
    packed = zlib.compress(data)
    return (DEFLATED, packed) if len(packed) < len(data) else (PLAIN, data)


def inflated(packed: bytes, place: Place) -> bytes:
    """Undo `deflated`, up to a bound: a few bytes may claim to be gigabytes.

    Raises:
        QueueError: it is too large or damaged.
    """
    inflating = zlib.decompressobj()
    try:
        data = inflating.decompress(packed, LARGEST_INFLATED + 1)
    except zlib.error:
        data = b""
    if not inflating.eof or len(data) > LARGEST_INFLATED:
        message = f"The stored bytes do not decompress to at most {LARGEST_INFLATED} bytes."
        raise place.refuse(message, "Submit the request again.")
    return data
