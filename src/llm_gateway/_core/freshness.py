"""Signs that an answer was served from an intermediary's cache: what proves it, what only suggests it.

Proof is an explicit hit: a header in which a cache says so, or an ``Age`` above zero. Suspicion is a trait that a
replay has and a fresh answer should not; it counts as proof only where the provider is known to keep that trait.
Values such as DYNAMIC, BYPASS and MISS, and the vendors' own prompt-cache token counts, are neither.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from llm_gateway._core.responses import CacheSignal, ProviderAnswer, SignalWeight

__all__ = ["FreshnessProfile", "SeenIds", "inspect", "proven"]

OLDEST_CREATED: Final = timedelta(seconds=30)
SHOWN: Final = 80
REMEMBERED_IDS: Final = 16_384

# What each header says on a hit. A value is compared word by word, in lower case.
HIT_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "akamai-cache-status": frozenset({"hit", "refreshhit", "hitstale"}),
    "cf-aig-cache-status": frozenset({"hit"}),
    "cf-cache-status": frozenset({"hit", "stale", "updating", "revalidated"}),
    "helicone-cache": frozenset({"hit"}),
    "x-ai-cache-status": frozenset({"hit"}),
    "x-cache": frozenset({"hit", "stale", "tcp_hit", "tcp_ims_hit", "tcp_mem_hit", "tcp_refresh_hit"}),
    "x-cache-status": frozenset({"hit", "stale", "updating", "revalidated"}),
    "x-llmgateway-cache": frozenset({"hit"}),
    "x-nginx-cache": frozenset({"hit", "stale", "updating", "revalidated"}),
    "x-openrouter-cache-status": frozenset({"hit"}),
    "x-portkey-cache-status": frozenset({"hit"}),
    "x-proxy-cache": frozenset({"hit", "stale", "updating", "revalidated"}),
    "x-vercel-cache": frozenset({"hit", "stale", "prerender"}),
}
# A number above zero in these is the age of a stored answer, or the count of its uses.
POSITIVE: Final = frozenset({"age", "x-ai-cache-age", "x-cache-hits", "x-openrouter-cache-age"})
# These stand on hits only.
PRESENT: Final = frozenset({"x-litellm-cache-key", "x-openrouter-cache-source-id"})
STALE_WARNINGS: Final = re.compile(r"\s*11[01] ")
# Traces of a gateway that could cache; its own switch is sent only where the settings name it.
GATEWAYS: Final[Mapping[str, str]] = {
    "cf-aig-": "cloudflare ai gateway",
    "helicone-": "helicone",
    "x-bf-": "bifrost",
    "x-bifrost-": "bifrost",
    "x-litellm-": "litellm",
    "x-llmgateway-": "llmgateway",
    "x-portkey-": "portkey",
}
TELLING: Final = frozenset({*HIT_WORDS, *POSITIVE, *PRESENT, "cache-status", "x-varnish", "warning"})
# Parameters of Cache-Status that are set, as RFC 9211 writes them; ``hit=?0`` says the contrary.
SERVED: Final = frozenset({"hit", "hit=?1", "collapsed", "collapsed=?1"})
TRACES: Final = tuple(GATEWAYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessProfile:
    """Which suspicions are as good as proof at a provider, because it is known to keep that field unique.

    Attributes:
        unique_response_ids: A repeated response id is proof.
        truthful_created: A creation time well before sending is proof.
        counts_usage: Text with zero usage is proof.
    """

    unique_response_ids: bool = False
    truthful_created: bool = False
    counts_usage: bool = False


class SeenIds:
    """The response ids this process saw last, to notice one that comes twice."""

    __slots__ = ("_ids", "_limit")

    def __init__(self, limit: int = REMEMBERED_IDS) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._limit = limit

    def __contains__(self, response_id: object) -> bool:
        return response_id in self._ids

    def add(self, response_id: str | None) -> None:
        """Remember one, and forget the oldest beyond the limit."""
        if response_id is None:
            return
        self._ids[response_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)


def inspect(answer: ProviderAnswer, *, profile: FreshnessProfile, seen_ids: Container[str]) -> tuple[CacheSignal, ...]:
    """Return every sign of a cache on *answer*; none on an ordinary one.

    Args:
        answer: What came back.
        profile: Which suspicions are proof here.
        seen_ids: Response ids of earlier answers.
    """
    return (*_in_headers(answer.headers), *_in_body(answer, profile, seen_ids))


def proven(signals: Iterable[CacheSignal]) -> bool:
    """Whether the signs prove that the answer is not fresh."""
    return any(signal.weight is SignalWeight.PROOF for signal in signals)


def _in_headers(headers: Mapping[str, str]) -> Iterator[CacheSignal]:
    if not TELLING.isdisjoint(headers):
        for name, value in headers.items():
            if name in TELLING and _hit(name, value):
                yield CacheSignal(name, value[:SHOWN], SignalWeight.PROOF)
    traces = [name for name in headers if name.startswith(TRACES)]
    if not traces:
        return
    # Dozens of such headers stand on one answer; the gateway is named once.
    found = (gateway for prefix, gateway in GATEWAYS.items() if any(name.startswith(prefix) for name in traces))
    yield from (CacheSignal("gateway", gateway, SignalWeight.NEUTRAL) for gateway in dict.fromkeys(found))


def _hit(name: str, value: str) -> bool:
    if name == "cache-status":
        return any(parameter in SERVED for parameter in _parameters(value))
    words = HIT_WORDS.get(name)
    if words is not None:
        return not words.isdisjoint(_words(value))
    if name in POSITIVE:
        return any(number.isascii() and number.isdigit() and number.strip("0") for number in _words(value))
    if name == "x-varnish":
        return len(value.split()) > 1
    return name in PRESENT or (name == "warning" and any(STALE_WARNINGS.match(part) for part in value.split(",")))


def _parameters(value: str) -> Iterator[str]:
    """Give the parameters of a structured list, such as ``edge; hit; ttl=30`` (RFC 9211)."""
    for member in value.lower().split(","):
        yield from (parameter.strip() for parameter in member.split(";")[1:])


def _words(value: str) -> list[str]:
    separated = value.lower()
    for separator in ",;=":
        separated = separated.replace(separator, " ")
    return separated.split()


def _in_body(answer: ProviderAnswer, profile: FreshnessProfile, seen_ids: Container[str]) -> Iterator[CacheSignal]:
    if answer.response_id is not None and answer.response_id in seen_ids:
        yield CacheSignal("repeated_response_id", answer.response_id[:SHOWN], _weight(profile.unique_response_ids))
    if answer.created is not None and _age(answer, answer.created) > OLDEST_CREATED:
        yield CacheSignal("created_before_sending", answer.created.isoformat(), _weight(profile.truthful_created))
    counted_nothing = answer.usage_counted and answer.usage.input_tokens == 0 and answer.usage.output_tokens == 0
    if answer.text and counted_nothing:
        yield CacheSignal("zero_usage", "0", _weight(profile.counts_usage))


def _weight(reliable: object) -> SignalWeight:
    return SignalWeight.PROOF if reliable else SignalWeight.SUSPICION


def _age(answer: ProviderAnswer, created: datetime) -> timedelta:
    """How long before sending it was made, by the vendor's own clock as its Date header shows it."""
    date = _http_date(answer.headers.get("date", ""))
    # Without a usable Date the two clocks are taken to agree.
    skew = timedelta(0) if date is None else date - answer.first_byte_at
    return (answer.sent_at - created) + skew


# A Date changes once a second, and answers come more often than that.
@lru_cache(maxsize=16)
def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo is not None else None
