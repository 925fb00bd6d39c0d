"""Several values as one string of bytes that can be read in one way only."""

from __future__ import annotations

__all__ = ["framed"]


def framed(*parts: str | bytes) -> bytes:
    """Join *parts*, each behind its length."""
    # A name may hold half of a surrogate pair, which is no reason to fail.
    written = [part.encode(errors="surrogatepass") if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in written)
