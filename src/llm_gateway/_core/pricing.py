"""Cost of a call by the public price list of genai-prices, read when first asked for."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Protocol

__all__ = ["TokenCounts", "cost_of"]


class TokenCounts(Protocol):
    """The counts that have a price."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def prompt_cache_read_tokens(self) -> int: ...
    @property
    def prompt_cache_write_tokens(self) -> int: ...


def cost_of(provider: str, model: str, usage: TokenCounts, at: datetime) -> Decimal | None:
    """Return the price in US dollars, or ``None`` when the list does not know the model. Never a guess of 0."""
    # Imported here: the price list takes longer to load than a first answer may wait for it.
    from genai_prices import Usage as PricedUsage
    from genai_prices import calc_price

    counts = PricedUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.prompt_cache_read_tokens or None,
        cache_write_tokens=usage.prompt_cache_write_tokens or None,
    )
    try:
        return calc_price(counts, model_ref=model, provider_id=provider, genai_request_timestamp=at).total_price
    except LookupError:
        return None
