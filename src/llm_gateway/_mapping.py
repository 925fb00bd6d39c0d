"""Many questions at once, a bounded number at a time, outcomes as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple, TypeVar

from llm_gateway._core.given import require_request, require_requests, require_whole
from llm_gateway._core.outcomes import Completed, Item, Pending
from llm_gateway._core.requests import LLMRequest
from llm_gateway.errors import InvalidRequest, LLMGatewayError

__all__ = ["Plan", "Progress", "mapped"]

T = TypeVar("T")
LONGEST_KEY: Final = 255
Asked = Callable[[LLMRequest], Awaitable[Completed[T] | Pending]]
Progress = Callable[[int, int | None], None]


class Draw(NamedTuple):
    """One question of a plan, and why it cannot be asked, if so."""

    place: int
    sample: int
    request: LLMRequest
    refusal: InvalidRequest | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask, how often, how many at once, and whom to tell how far it is.

    Raises:
        InvalidRequest: *requests* are none, *samples* or *concurrency* is no whole number above 0, or *progress*
            cannot be called.
    """

    requests: Iterable[LLMRequest]
    samples: int
    concurrency: int
    progress: Progress | None

    def __post_init__(self) -> None:
        require_requests(self.requests)
        require_whole(self.samples, "samples", at_least=1)
        require_whole(self.concurrency, "concurrency", at_least=1)
        # Found out after the first answer, it would cost that answer.
        if self.progress is not None and not callable(self.progress):
            message = f"progress is called with two numbers; {type(self.progress).__name__} cannot be."
            raise InvalidRequest(message)

    @property
    def total(self) -> int | None:
        """How many outcomes there will be, where that is known."""
        return len(self.requests) * self.samples if isinstance(self.requests, Sequence) else None

    def draws(self) -> Iterator[Draw]:
        """Yield every request once for each sample, with its place; a sample has a key of its own."""
        for index, given in enumerate(self.requests):
            try:
                request = require_request(given)
            except InvalidRequest as error:
                # Told for every draw of it, so that the outcomes add up.
                yield from (Draw(index, sample, given, error) for sample in range(self.samples))
            else:
                yield from self._draws_of(index, request)

    def _draws_of(self, index: int, request: LLMRequest) -> Iterator[Draw]:
        for sample in range(request.sample, request.sample + self.samples):
            changes: dict[str, object] = {"sample": sample}
            if request.idempotency_key is not None:
                changes["idempotency_key"] = key_of_sample(request.idempotency_key, sample)
            yield Draw(index, sample, request.model_copy(update=changes) if self.samples > 1 else request)


def key_of_sample(key: str, sample: int) -> str:
    """Make the key of one draw; of a key that would grow too long, its digest."""
    name = f"{key}:{sample}"
    return name if len(name) <= LONGEST_KEY else sha256(name.encode()).hexdigest()


async def mapped(ask: Asked[T], plan: Plan) -> AsyncGenerator[Item[T]]:
    """Carry out *plan*; yield outcomes as they come. Leaving early cancels what is still being asked."""
    draws, done_count = plan.draws(), 0
    running: set[asyncio.Task[Item[T]]] = set()
    try:
        while True:
            while len(running) < plan.concurrency and (draw := next(draws, None)) is not None:
                running.add(asyncio.create_task(_item(ask, draw)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                done_count += 1
                if plan.progress is not None:
                    plan.progress(done_count, plan.total)
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)


async def _item(ask: Asked[T], draw: Draw) -> Item[T]:
    outcome: Completed[T] | Pending | LLMGatewayError
    try:
        outcome = draw.refusal if draw.refusal is not None else await ask(draw.request)
    except LLMGatewayError as error:
        outcome = error
    return Item(draw.place, draw.sample, draw.request, outcome)
