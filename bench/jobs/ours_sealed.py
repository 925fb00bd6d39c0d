"""The queue of this library, with all that it stores sealed: compressed where that pays, then AES-256-GCM."""

from __future__ import annotations

from base64 import b64encode

from _measure import report
from ours import peer

from llm_gateway.codecs.aesgcm import AesGcmCodec

KEY = b64encode(bytes(range(32))).decode()

if __name__ == "__main__":
    report(peer(lambda queue: AesGcmCodec([KEY], queue), "cryptography"))
