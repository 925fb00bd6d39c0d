"""What proves a replay, what only suggests one, and what means nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway._core.freshness import HIT_WORDS, POSITIVE, PRESENT, FreshnessProfile, inspect, proven
from llm_gateway._core.responses import CacheSignal, FinishReason, ProviderAnswer, SignalWeight, Usage

SENT = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
NOTHING_RELIABLE = FreshnessProfile()
ALL_RELIABLE = FreshnessProfile(unique_response_ids=True, truthful_created=True, counts_usage=True)
USED = Usage(input_tokens=10, output_tokens=5, prompt_cache_read_tokens=8)


def answer(
    *,
    headers: dict[str, str] | None = None,
    created: datetime | None = SENT,
    usage: Usage = USED,
    usage_counted: bool = True,
) -> ProviderAnswer:
    """Make an ordinary answer, but for what is given."""
    return ProviderAnswer(
        text="A",
        finish_reason=FinishReason.STOP,
        usage=usage,
        usage_counted=usage_counted,
        served_model="gpt-4o",
        response_id="chatcmpl-1",
        provider_request_id="req_1",
        created=created,
        headers=headers or {},
        sent_at=SENT,
        first_byte_at=SENT + timedelta(seconds=1),
        received_at=SENT + timedelta(seconds=2),
    )


def weights(signals: tuple[CacheSignal, ...]) -> dict[str, SignalWeight]:
    """Return the weight of each signal by name."""
    return {signal.name: signal.weight for signal in signals}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", "1"),
        ("age", "9" * 5000),
        ("akamai-cache-status", "RefreshHit from child"),
        ("cache-status", '"edge"; hit; ttl=30'),
        ("cache-status", "edge; fwd=miss; collapsed"),
        ("cache-status", "far; fwd=miss, edge; hit=?1"),
        ("cf-aig-cache-status", "HIT"),
        ("cf-cache-status", "HIT"),
        ("cf-cache-status", "STALE"),
        ("cf-cache-status", "UPDATING"),
        ("cf-cache-status", "REVALIDATED"),
        ("helicone-cache", "HIT"),
        ("warning", '110 cache "Response is Stale"'),
        ("warning", '199 - "odd", 111 - "Revalidation Failed"'),
        ("x-ai-cache-age", "12"),
        ("x-ai-cache-status", "HIT"),
        ("x-cache", "HIT, MISS"),
        ("x-cache", "Hit from cloudfront"),
        ("x-cache", "TCP_HIT from a1"),
        ("x-cache-hits", "0, 1"),
        ("x-cache-status", "Hit"),
        ("x-litellm-cache-key", "7f3a"),
        ("x-llmgateway-cache", "HIT"),
        ("x-nginx-cache", "HIT"),
        ("x-openrouter-cache-age", "3"),
        ("x-openrouter-cache-source-id", "gen-1"),
        ("x-openrouter-cache-status", "HIT"),
        ("x-portkey-cache-status", "SEMANTIC HIT"),
        ("x-proxy-cache", "HIT"),
        ("x-varnish", "32770 3"),
        ("x-vercel-cache", "PRERENDER"),
    ],
)
def test_an_explicit_hit_is_proof(name: str, value: str) -> None:
    """A header in which a cache says that it answered is proof at every provider."""
    signals = inspect(answer(headers={name: value}), profile=NOTHING_RELIABLE, seen_ids=())
    assert SignalWeight.PROOF == weights(signals)[name]
    assert proven(signals)


CLEAN = [
    {},
    {"cf-cache-status": "DYNAMIC", "cf-ray": "8e7-ARN", "server": "cloudflare", "x-request-id": "req_1"},
    {"cf-cache-status": "BYPASS"},
    {"cf-cache-status": "MISS"},
    {"cf-cache-status": "EXPIRED"},
    {"age": "0"},
    {"age": "old"},
    {"age": "\u00b2"},
    {"x-cache": "MISS"},
    {"x-cache": "Miss from cloudfront"},
    {"x-cache-hits": "0"},
    {"x-cache-status": "Refresh"},
    {"x-cache-status": "Bypass"},
    {"x-varnish": "32770"},
    {"cache-status": "edge; fwd=uri-miss; stored"},
    {"cache-status": "edge; hit=?0"},
    {"cache-status": "edge; fwd=miss; detail=hit"},
    {"warning": '299 - "deprecated"'},
    {"x-openrouter-cache-status": "MISS"},
    {"x-vercel-cache": "MISS"},
    {"request-id": "req_1", "anthropic-ratelimit-requests-remaining": "3999"},
]


@pytest.mark.parametrize("headers", CLEAN)
def test_an_ordinary_answer_gives_no_sign(headers: dict[str, str]) -> None:
    """Values that say no hit, absence, and tokens of the vendor's own prompt cache are no sign at all."""
    assert () == inspect(answer(headers=headers), profile=ALL_RELIABLE, seen_ids={"chatcmpl-0"})


@pytest.mark.parametrize(
    ("headers", "gateway"),
    [
        ({"cf-aig-log-id": "1", "cf-aig-step": "0", "cf-aig-cache-status": "MISS"}, "cloudflare ai gateway"),
        ({"x-litellm-model-id": "1", "x-litellm-version": "1"}, "litellm"),
        ({"helicone-id": "1"}, "helicone"),
        ({"x-portkey-cache-status": "MISS"}, "portkey"),
        ({"x-bf-trace": "1"}, "bifrost"),
    ],
)
def test_a_gateway_that_could_cache_is_named_once_and_is_neutral(headers: dict[str, str], gateway: str) -> None:
    """Traces of a gateway are recorded without weight, however many headers it leaves."""
    signals = inspect(answer(headers=headers), profile=ALL_RELIABLE, seen_ids=())
    assert (CacheSignal("gateway", gateway, SignalWeight.NEUTRAL),) == signals
    assert not proven(signals)


SUSPECT = {
    "repeated_response_id": (answer(), {"chatcmpl-1"}),
    "created_before_sending": (answer(created=SENT - timedelta(seconds=31)), set[str]()),
    "zero_usage": (answer(usage=Usage()), set[str]()),
}


@pytest.mark.parametrize("name", SUSPECT)
def test_a_trait_of_replays_is_proof_only_where_it_is_reliable(name: str) -> None:
    """The same trait is a suspicion at a provider that does not keep it, and proof at one that does."""
    suspect, seen = SUSPECT[name]
    suspicion = inspect(suspect, profile=NOTHING_RELIABLE, seen_ids=seen)
    assert {name: SignalWeight.SUSPICION} == weights(suspicion)
    assert not proven(suspicion)
    assert {name: SignalWeight.PROOF} == weights(inspect(suspect, profile=ALL_RELIABLE, seen_ids=seen))


def test_half_a_minute_of_doubt() -> None:
    """An answer made just thirty seconds before sending is not suspected."""
    assert () == inspect(answer(created=SENT - timedelta(seconds=30)), profile=ALL_RELIABLE, seen_ids=())


@pytest.mark.parametrize(("behind", "signs"), [(timedelta(hours=1), 0), (timedelta(0), 1)])
def test_the_clock_of_the_vendor_decides(behind: timedelta, signs: int) -> None:
    """A creation time is judged by the clock that the Date header shows."""
    date = format_datetime(SENT + timedelta(seconds=1) - behind, usegmt=True)
    made = answer(created=SENT - timedelta(hours=1), headers={"date": date})
    assert signs == len(inspect(made, profile=ALL_RELIABLE, seen_ids=()))


def test_an_answer_without_counts_is_not_one_that_counts_nothing() -> None:
    """Zero usage is a sign only where the answer had a usage."""
    assert () == inspect(answer(usage=Usage(), usage_counted=False), profile=ALL_RELIABLE, seen_ids=())


NAMES = st.sampled_from(sorted({*HIT_WORDS, *POSITIVE, *PRESENT, "date", "warning", "x-varnish"}))


@given(st.dictionaries(NAMES, st.text(max_size=60)))
def test_no_header_does_harm(headers: dict[str, str]) -> None:
    """Whatever the headers say, inspecting them ends in signals that fit a receipt."""
    signals = inspect(answer(headers=headers), profile=ALL_RELIABLE, seen_ids=())
    assert all(len(signal.value) <= 80 for signal in signals)
