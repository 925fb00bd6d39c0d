"""Which parameters a model does not take, by the beginning of its name. An unknown model is sent what was asked.

Sources: the vendors' model pages; rejections as listed in their parameter tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from llm_gateway._core.requests import LLMRequest
from llm_gateway.errors import ErrorInfo, UnsupportedParameter

__all__ = ["ANTHROPIC", "OPENAI", "Profile", "unsupported"]


class Profile(NamedTuple):
    """What a family of models does not take.

    Attributes:
        rejects: Parameters it never takes.
        fixed_temperature: Takes no temperature but 1, unless its reasoning effort is ``none``.
        efforts: Reasoning efforts it knows; empty: whatever the vendor accepts.
        highest_temperature: The vendor's own upper bound.
    """

    rejects: frozenset[str] = frozenset()
    fixed_temperature: bool = False
    efforts: frozenset[str] = frozenset()
    highest_temperature: float = 2.0


OPENAI_REASONING: Final = Profile(fixed_temperature=True)
OPENAI_PLAIN: Final = Profile(rejects=frozenset({"reasoning_effort", "verbosity"}))
CLAUDE_EFFORTS: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
CLAUDE: Final = Profile(rejects=frozenset({"seed", "verbosity"}), efforts=CLAUDE_EFFORTS, highest_temperature=1.0)
CLAUDE_FIXED: Final = Profile(rejects=frozenset({"seed", "verbosity", "temperature"}), efforts=CLAUDE_EFFORTS)

# The longest beginning that fits decides.
OPENAI: Final[Mapping[str, Profile]] = {
    "": Profile(),
    "chatgpt-4o": OPENAI_PLAIN,
    "gpt-3.5": OPENAI_PLAIN,
    "gpt-4": OPENAI_PLAIN,
    "gpt-5": OPENAI_REASONING,
    "gpt-5-chat": OPENAI_PLAIN,
    "o1": OPENAI_REASONING,
    "o3": OPENAI_REASONING,
    "o4": OPENAI_REASONING,
}
ANTHROPIC: Final[Mapping[str, Profile]] = {
    "": CLAUDE,
    "claude-fable-5": CLAUDE_FIXED,
    "claude-opus-4-7": CLAUDE_FIXED,
    "claude-haiku-5": CLAUDE_FIXED,
    "claude-opus-4-8": CLAUDE_FIXED,
    "claude-opus-4-9": CLAUDE_FIXED,
    "claude-opus-5": CLAUDE_FIXED,
    "claude-sonnet-5": CLAUDE_FIXED,
}


def unsupported(request: LLMRequest, profiles: Mapping[str, Profile]) -> frozenset[str]:
    """Return the parameters of *request* that its model does not take, to be left out.

    Raises:
        UnsupportedParameter: there are some, and the request does not say ``drop_unsupported``.
    """
    names = _rejected(request, _profile(request.model, profiles))
    if names and not request.drop_unsupported:
        listed = ", ".join(sorted(names))
        message = f"The model does not take {listed} as given."
        raise UnsupportedParameter(message, info=ErrorInfo(provider=request.provider, model=request.model))
    return names


def _profile(model: str, profiles: Mapping[str, Profile]) -> Profile:
    # A fine-tuned model takes what its base takes.
    base = model.removeprefix("ft:")
    beginning = max((known for known in profiles if base.startswith(known)), key=len)
    return profiles[beginning]


def _rejected(request: LLMRequest, profile: Profile) -> frozenset[str]:
    given = {name for name in ("temperature", "reasoning_effort", "verbosity", "seed") if _is_set(request, name)}
    rejected = given & profile.rejects
    fixed = profile.fixed_temperature and request.reasoning_effort != "none"
    too_high = request.temperature is not None and request.temperature > profile.highest_temperature
    if too_high or (fixed and request.temperature not in {None, 1.0}):
        rejected.add("temperature")
    if profile.efforts and request.reasoning_effort not in {None, *profile.efforts}:
        rejected.add("reasoning_effort")
    return frozenset(rejected)


def _is_set(request: LLMRequest, name: str) -> bool:
    return getattr(request, name) is not None
