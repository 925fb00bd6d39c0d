"""The same questions to a real provider: few, priced before the first is asked, and no outage staged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from genai_prices import Usage, calc_price

from examples.demo.report import Report, make_console, price
from examples.demo.session import CONCURRENCY, Judge, Plan, Session, conclude, library_log
from llm_gateway import Environment, LLMClient, LLMRequest, Settings

__all__ = ["estimate", "judge_for", "run_real"]

NOT_STARTED: Final = 2
FETCH_SECONDS: Final = 300.0
# Generous on purpose: English has about four characters a token, and the schema travels with each request.
CHARACTERS_PER_TOKEN: Final = 3
SCHEMA_TOKENS: Final = 200


async def run_real(calls: int, *, seed: int, yes: bool) -> int:
    """Ask a real provider, once its cost is agreed to, and return the exit code."""
    settings = Settings(environment=Environment.DEVELOPMENT, queue="memory", dev_cache=False)
    judge = judge_for(settings)
    if judge is None:
        print("--real needs a key: set OPENAI_API_KEY or ANTHROPIC_API_KEY, or leave --real out.", file=sys.stderr)
        return NOT_STARTED
    plan = Plan.of(calls, judge, seed=seed)
    print(f"{calls} judgements by {judge.provider} {judge.model}: at most {price(estimate(judge, plan.requests))}.")
    if not (yes or _consent()):
        return NOT_STARTED
    report = Report(make_console(), calls)
    async with LLMClient.from_settings(settings) as client:
        session = Session(client, plan.requests, report)
        with report, library_log(report):
            await session.ask(range(calls))
            async with client.worker(concurrency=CONCURRENCY):
                await session.fetch_all(timeout=FETCH_SECONDS)
    return conclude(session, plan, provider_calls=session.tally.attempts)


def judge_for(settings: Settings) -> Judge | None:
    """Return the judge whose key is set, OpenAI before Anthropic; ``None`` without a key."""
    if settings.openai_api_key is not None:
        return Judge("openai", "gpt-4.1-mini")
    if settings.anthropic_api_key is not None:
        return Judge("anthropic", "claude-haiku-4-5")
    return None


def estimate(judge: Judge, requests: Sequence[LLMRequest]) -> Decimal:
    """Return the most that *requests* should cost in US dollars: every answer as long as it may be."""
    texts = (message.text for request in requests for message in request.conversation)
    asked = sum(len(text) for text in texts) // CHARACTERS_PER_TOKEN + SCHEMA_TOKENS * len(requests)
    answered = sum(request.max_output_tokens or 0 for request in requests)
    usage = Usage(input_tokens=asked, output_tokens=answered)
    return calc_price(usage, model_ref=judge.model, provider_id=judge.provider).total_price


def _consent() -> bool:
    if not sys.stdin.isatty():
        print("Nobody is there to agree to the cost: pass --yes.", file=sys.stderr)
        return False
    return input("Go on? [y/N] ").strip().lower() in {"y", "yes"}
