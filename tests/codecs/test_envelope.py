"""Sealed bytes open at their own place, unchanged, and nowhere else."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.codecs._envelope import LARGEST_INFLATED, Place, seal, unseal
from llm_gateway.codecs._framing import framed
from llm_gateway.errors import QueueError

KEY: Final = bytes(range(32))
HERE: Final = Place("school-1", "01JTICKET", "payload")
OVERHEAD: Final = 5 + 40 + 12 + 16


@given(st.binary(max_size=2_000), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_round_trip(data: bytes, tenant: str, ticket: str, kind: str) -> None:
    """Whatever is sealed for whatever place opens there as it was."""
    place = Place(tenant, ticket, kind)
    assert data == unseal(seal(data, KEY, place), KEY, place)


@given(st.lists(st.text(max_size=5), min_size=3, max_size=3), st.lists(st.text(max_size=5), min_size=3, max_size=3))
def test_places_are_told_apart(one: list[str], other: list[str]) -> None:
    """Two places are bound by the same bytes only when they are the same place."""
    assert (one == other) == (framed(*one) == framed(*other))


def test_odd_names() -> None:
    """A name with half of a surrogate pair is a name like any other."""
    place = Place("\ud800", "t", "payload")
    assert b"x" == unseal(seal(b"x", KEY, place), KEY, place)


@pytest.mark.parametrize(
    "place",
    [
        Place("school-2", "01JTICKET", "payload"),
        Place("school-1", "01JOTHER", "payload"),
        Place("school-1", "01JTICKET", "result"),
        Place("school-10", "1JTICKET", "payload"),
        Place("school-1", "01JTICKETp", "ayload"),
    ],
)
def test_moved(place: Place) -> None:
    """Bytes that were moved to another tenant, ticket or kind do not open, even under the same key."""
    blob = seal(b"an essay", KEY, HERE)
    with pytest.raises(QueueError) as caught:
        unseal(blob, KEY, place)
    assert ("unreadable", place.ticket_id) == (caught.value.info.code, caught.value.ticket_id)


@pytest.mark.parametrize("data", [b"an essay", b"an essay " * 20], ids=["plain", "deflated"])
def test_any_bit_flipped(data: bytes) -> None:
    """No bit of a sealed blob can change without its being refused."""
    blob = seal(data, KEY, HERE)
    for place in range(len(blob)):
        for bit in range(8):
            changed = blob[:place] + bytes([blob[place] ^ 1 << bit]) + blob[place + 1 :]
            with pytest.raises(QueueError):
                unseal(changed, KEY, HERE)


def test_cut_or_prolonged() -> None:
    """A blob that was cut anywhere or prolonged is refused."""
    blob = seal(b"an essay", KEY, HERE)
    for changed in [blob[:length] for length in range(len(blob))] + [blob + b"\0"]:
        with pytest.raises(QueueError):
            unseal(changed, KEY, HERE)


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b'{"version": 1}', "not sealed"),
        (b"LGS\x02\x00" + bytes(100), r"not known here \(2\.0\)"),
        (b"LGS\x01\x02" + bytes(100), r"not known here \(1\.2\)"),
        (b"LGS\x01\x00" + bytes(100), "changed"),
    ],
)
def test_says_what_is_wrong(blob: bytes, says: str) -> None:
    """The error tells bytes that are not sealed from a newer format and from tampering, and ends in a next step."""
    with pytest.raises(QueueError, match=says) as caught:
        unseal(blob, KEY, HERE)
    assert QueueError.next_step != caught.value.next_step


def test_wrong_key() -> None:
    """Another tenant's key opens nothing."""
    with pytest.raises(QueueError):
        unseal(seal(b"an essay", KEY, HERE), bytes(32), HERE)


def test_never_the_same_twice() -> None:
    """The same bytes sealed twice share nothing but the mark: each has a data key and a nonce of its own."""
    one, other = seal(b"an essay", KEY, HERE), seal(b"an essay", KEY, HERE)
    assert one[:5] == other[:5]
    assert [] == [place for place in (slice(5, 45), slice(45, 57), slice(57, None)) if one[place] == other[place]]


def test_compresses_where_it_pays() -> None:
    """Text becomes shorter; what cannot become shorter costs the header and no more."""
    text, noise = b"Which essay is better? " * 100, os.urandom(2_000)
    assert len(seal(text, KEY, HERE)) < len(text) / 4
    assert len(noise) + OVERHEAD == len(seal(noise, KEY, HERE))
    assert [text, noise] == [unseal(seal(data, KEY, HERE), KEY, HERE) for data in (text, noise)]


def by_hand(packed: bytes) -> bytes:
    """Seal bytes that claim to be compressed, as the format is documented."""
    data_key, nonce = os.urandom(32), os.urandom(12)
    header = b"LGS\x01\x01" + aes_key_wrap(KEY, data_key) + nonce
    return header + AESGCM(data_key).encrypt(nonce, packed, HERE.bind(header))


def test_format_is_as_documented() -> None:
    """A blob put together by hand opens."""
    assert b"an essay" == unseal(by_hand(zlib.compress(b"an essay")), KEY, HERE)


@pytest.mark.parametrize(
    "packed",
    [zlib.compress(bytes(LARGEST_INFLATED + 1)), zlib.compress(b"an essay")[:-1], b"no zlib", b""],
    ids=["bomb", "cut", "other", "empty"],
)
def test_bombs_are_refused(packed: bytes) -> None:
    """What does not decompress within the bound is refused, although whoever sealed it had the key."""
    with pytest.raises(QueueError, match="decompress"):
        unseal(by_hand(packed), KEY, HERE)


def test_bombs_take_bounded_memory() -> None:
    """A bomb takes no more memory than the largest blob that opens."""
    deflating = zlib.compressobj()
    bomb = by_hand(b"".join([*(deflating.compress(bytes(LARGEST_INFLATED)) for _ in range(4)), deflating.flush()]))
    tracemalloc.start()
    try:
        with pytest.raises(QueueError, match="decompress"):
            unseal(bomb, KEY, HERE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * LARGEST_INFLATED


def test_largest() -> None:
    """The largest blob that is compressed opens again, and a larger one is stored as it is."""
    for size in (LARGEST_INFLATED, LARGEST_INFLATED + 1):
        blob = seal(bytes(size), KEY, HERE)
        assert (size > LARGEST_INFLATED) == (len(blob) > size)
        assert size == len(unseal(blob, KEY, HERE))
