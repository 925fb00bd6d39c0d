"""Run the demo: ``python examples/demo``. It needs no key and nothing that runs."""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

# Run by path, a folder sees only itself: let it import as the package that it is.
sys.path.insert(0, str(Path(__file__).parents[2]))

from examples.demo.real import run_real
from examples.demo.simulated import run_simulated

DEFAULT_CALLS = {False: 60, True: 12}
DESCRIPTION = """\
Compare a dozen short essays pair by pair and fit their order.

By default a simulated provider answers over real HTTP on loopback. It breaks down half-way: calls then end in tickets,
the circuit breaker opens, a single probe tests the provider until it is back, and the queue drains. The table at the
end counts, from the receipts, that no question was lost and no answer was replayed."""
EPILOG = """\
exit codes: 0 all well; 1 a question was lost or an answer replayed; 2 --real without a key or without consent.
--real reads OPENAI_API_KEY or ANTHROPIC_API_KEY and shows what the run costs before it starts."""


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        message = "must be 1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


@dataclass(frozen=True, slots=True)
class _Arguments:
    calls: int
    seed: int
    real: bool
    yes: bool


def _arguments() -> _Arguments:
    parser = argparse.ArgumentParser(
        prog="demo", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", action="store_true", help="ask a real provider; no outage is staged")
    parser.add_argument("--calls", type=_positive, metavar="N", help="judgements to ask (default: 60; 12 with --real)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="which pairs are drawn (default: 1)")
    parser.add_argument("--yes", action="store_true", help="agree to the cost that --real shows")
    given = parser.parse_args()
    calls: int | None = given.calls
    return _Arguments(calls or DEFAULT_CALLS[given.real], given.seed, given.real, given.yes)


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    given = _arguments()
    if given.real:
        return asyncio.run(run_real(given.calls, seed=given.seed, yes=given.yes))
    return asyncio.run(run_simulated(given.calls, seed=given.seed))


if __name__ == "__main__":
    sys.exit(main())
